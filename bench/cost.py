"""What a mail costs: processor time of each part, from the HTTP request to the sink, beside Postfix's by the same method."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bench import smtp
from bench.gateway import load, result, running

MAILS = 12_000
CONNECTIONS = 128
SETTLE_SECONDS = 1.0  # until the last results are written
TICK = os.sysconf("SC_CLK_TCK")
TARGET_MS = 0.7
TIMES = 3  # that Postfix costs ours
CLIENT = "client, not ours"


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time a mail, by part."""

    name: str
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """What the server spends, without the client that loads it."""
        return sum(spent for part, spent in self.parts.items() if part != CLIENT)


def measure(repeat: int, say: Callable[[str], None]) -> list[Cost]:
    """Send as many mails through both, in turn; of several runs the one in the middle is told."""
    runs: list[tuple[Cost, Cost]] = []
    for turn in range(1, repeat + 1):
        say(f"cost of a mail ({turn} of {repeat})")
        runs.append((_through_us(), _through_postfix()))
    return [sorted(each, key=lambda cost: cost.total)[repeat // 2] for each in zip(*runs, strict=True)]


def is_met(costs: list[Cost]) -> bool:
    """Tell whether a mail costs as little as was promised."""
    ours, theirs = costs
    return ours.total <= TARGET_MS and ours.total * TIMES <= theirs.total


def table_of(costs: list[Cost]) -> Table:
    """Set the parts below each other, ours beside Postfix's."""
    table = Table(title="Milliseconds of processor time a mail of 5 KB, accepted to delivered")
    table.add_column("part")
    for cost in costs:
        table.add_column(cost.name, justify="right")
    for part in dict.fromkeys(part for cost in costs for part in cost.parts):
        table.add_row(part, *(f"{cost.parts[part]:.3f}" if part in cost.parts else "" for cost in costs))
    table.add_row("in all", *(f"{cost.total:.3f}" for cost in costs))
    verdict = "met" if is_met(costs) else "missed"
    table.add_row(f"target: {TARGET_MS}, and Postfix's {TIMES} times ours", verdict)
    return table


def _through_us() -> Cost:
    with smtp.sink(MAILS) as (port, receiver):
        settings = {"TRANSPORT": "smtp", "SMTP_URL": f"smtp://127.0.0.1:{port}?tls=none"}
        with running("api", "worker", **settings) as gateway:
            assert gateway.postgres.pid is not None
            pids = {
                "api": gateway.pid_of("api"),
                "worker": gateway.pid_of("worker"),
                "PostgreSQL": gateway.postgres.pid,
            }
            with load(gateway, count=MAILS, batch=1, connections=CONNECTIONS) as client:
                before = {part: spent_by(pid) for part, pid in pids.items()}
                result(client)
                in_client = spent_by(client.pid)
                receiver.wait(timeout=300)
                time.sleep(SETTLE_SECONDS)
                took = {part: spent_by(pid) - before[part] for part, pid in pids.items()}
    return Cost("ours", _per_mail({**took, CLIENT: in_client}))


def _through_postfix() -> Cost:
    with smtp.sink(MAILS) as (sink_port, receiver), smtp.postfix(sink_port) as (port, master):
        before = spent_by(master)
        smtp.send(MAILS, port)
        receiver.wait(timeout=300)
        time.sleep(SETTLE_SECONDS)
        return Cost("Postfix", _per_mail({"Postfix": spent_by(master) - before}))


def _per_mail(took: dict[str, float]) -> dict[str, float]:
    return {part: seconds * 1000 / MAILS for part, seconds in took.items()}


def spent_by(pid: int) -> float:
    """Return the processor seconds of a process and of all its children, ended ones too."""
    try:
        # proc_pid_stat(5): after the name stand utime, stime, cutime and cstime as fields 12 to 15, in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        children = [each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return 0.0  # it has just ended: its parent has it
    own = sum(int(each) for each in fields[11:15]) / TICK
    return own + sum(spent_by(int(child)) for each in children for child in each)
