"""The SMTP client alone, into Postfix's smtp-sink: CPU of its process per mail, beside the standard library's smtplib.

Run as a process of its own (`python -m bench.client`), so that its CPU is counted apart from the sink's.
"""

import asyncio
import gc
import json
import smtplib
import statistics
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import uvloop
from rich.table import Table

from bench import smtp
from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import parse_smtp_url
from email_gateway.mail.deliveries import Claim, Claims, Phase, Verdict

MAILS = 20_000
PEER_MAILS = 4_000
CONNECTIONS = 20
LINE = b"A line of an ordinary invoice, as long as lines of text are.\r\n"
RAW = b"From: billing@example.com\r\nTo: person@example.net\r\nSubject: Invoice\r\n\r\n" + LINE * 80
OURS, LOCKSTEP, PEER = "pipelined", "in lock-step", "smtplib"
KINDS = {OURS: "ours", LOCKSTEP: "ours, without PIPELINING", PEER: "smtplib (one connection)"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way of sending cost: microseconds of CPU a mail, and mails a second of wall time."""

    name: str
    cpu_us: float
    per_second: float

    @property
    def per_cpu_second(self) -> float:
        return 1e6 / self.cpu_us


def measure(repeat: int, say: Callable[[str], None]) -> list[Cost]:
    """Send mails of 5 KB in each way, taking turns; the median of CPU a mail is returned."""
    found: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    for turn in range(1, repeat + 1):
        for kind, name in KINDS.items():
            say(f"the client alone, {name} ({turn} of {repeat})")
            found[kind].append(_run(kind, name))
    return [
        Cost(each[0].name, statistics.median(c.cpu_us for c in each), statistics.median(c.per_second for c in each))
        for each in found.values()
    ]


def table_of(costs: list[Cost]) -> Table:
    """Set the ways of sending beside each other."""
    table = Table(title="The client alone into smtp-sink, mails of 5 KB (medians)")
    for column in ("", "CPU a mail", "mails per CPU second", "mails/s"):
        table.add_column(column, justify="left" if not column else "right")
    for cost in costs:
        table.add_row(cost.name, f"{cost.cpu_us:.0f} us", f"{cost.per_cpu_second:,.0f}", f"{cost.per_second:,.0f}")
    return table


def _run(kind: str, name: str) -> Cost:
    count = PEER_MAILS if kind == PEER else MAILS
    with smtp.sink(2 * count, *(["-p"] if kind == LOCKSTEP else [])) as (port, _):
        # It would exit with the last message, and its answers to others be lost: hence twice as many.
        plan = {"port": port, "count": count, "kind": kind}
        run = subprocess.run(
            [sys.executable, "-m", "bench.client"],
            input=json.dumps(plan),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result = json.loads(run.stdout)
    return Cost(name, result["cpu"] / count * 1e6, count / result["seconds"])


def mail_to(number: int) -> OutgoingMail:
    """One mail to one recipient, as a worker holds it."""
    tenant_id, message_id = uuid.uuid4(), uuid.uuid4()
    now = datetime.now(UTC)
    claim = Claim(tenant_id, message_id, 0, "example.net", uuid.uuid4(), 1)
    claims = Claims(tenant_id, message_id, now, now + timedelta(days=1), "resend", None, 0, (claim,))
    return OutgoingMail(claims, "billing@example.com", (f"person{number}@example.net",), RAW)


async def reached(_claims: Claims, _phase: Phase) -> float:
    """Stand for the queue, at no cost: what it commits is not the client's."""
    return time.monotonic() + 60


async def send_ours(port: int, mails: deque[OutgoingMail]) -> None:
    """Send over as many connections as a worker keeps."""
    target = parse_smtp_url(f"smtp://127.0.0.1:{port}?tls=none")
    transport = SmtpTransport(lambda: target)

    async def send_each() -> None:
        while mails:
            (outcome,) = await transport.send(mails.popleft(), reached)
            assert outcome.verdict is Verdict.DELIVERED, outcome

    await asyncio.gather(*(send_each() for _ in range(CONNECTIONS)))
    await transport.close()


def send_by_library(port: int, mails: deque[OutgoingMail]) -> None:
    """Send over one connection that is kept: more of them need threads, which cost more."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        for mail in mails:
            client.sendmail(mail.sender, mail.recipients, mail.raw)


def main() -> None:
    """Read the run as JSON on standard input, print what it cost as JSON."""
    plan = json.load(sys.stdin)
    mails = deque(mail_to(number) for number in range(plan["count"]))
    gc.freeze()  # no worker holds thousands of mails for the collector to walk over
    started, cpu = time.perf_counter(), time.process_time()
    if plan["kind"] == PEER:
        send_by_library(plan["port"], mails)
    else:
        uvloop.run(send_ours(plan["port"], mails))
    print(json.dumps({"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
