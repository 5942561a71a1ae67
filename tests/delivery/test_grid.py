"""Whatever a server does at whatever stage, with PIPELINING and without: what comes of the mail, and when it is tried again.

`GRID` is what must come of it, one row a case. Each case is a server on loopback that misbehaves in
one way, one mail to one recipient over TLS with a login, and the rows that the database has afterwards.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import parse_smtp_url
from email_gateway.events import Recorder as Events
from email_gateway.mail.deliveries import COMMON_LANE, Claims, Outcome, Verdict
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.vault.keyring import Keyring
from tests.delivery.attempting import BRIEF, RAW, Recorder, patience, refusing_address, silent_address
from tests.delivery.certificates import Authority
from tests.delivery.grid import GRID
from tests.makers import new_message, new_request
from tests.smtp_servers import DROP, GOODBYE, HANG, KEYWORDS, PIPELINED, Behaviour, Drip, Say, SmtpServer

pytestmark = pytest.mark.anyio

AT_A_TIME = 8
LOGIN = "user:secret@"


@dataclass(frozen=True)
class Stage:
    """One stage: its verb in a server's script, its time-out, what is due, and the verb whose reply comes before."""

    verb: str
    timeout: str
    due: bytes
    before: str = ""


def ehlo(keywords: tuple[str, ...], first: bytes = b"test.example") -> bytes:
    offered = (*keywords, "STARTTLS", "AUTH PLAIN")
    return (
        b"250-"
        + first
        + b"".join(f"\r\n250{'-' if word is not offered[-1] else ' '}{word}".encode() for word in offered)
        + b"\r\n"
    )


def stages(keywords: tuple[str, ...]) -> dict[str, Stage]:
    return {
        "connect": Stage("", "connect", b""),
        "banner": Stage("CONNECT", "greeting", b"220 test.example ESMTP\r\n"),
        "EHLO": Stage("EHLO", "ehlo", ehlo(keywords), "CONNECT"),
        "STARTTLS": Stage("STARTTLS", "tls", b"220 2.0.0 go ahead\r\n", "EHLO"),
        "AUTH": Stage("AUTH", "auth", b"235 2.7.0 welcome\r\n", "EHLO"),
        "MAIL": Stage("MAIL", "mail", b"250 2.1.0 ok\r\n", "AUTH"),
        "RCPT": Stage("RCPT", "rcpt", b"250 2.1.5 ok\r\n", "MAIL"),
        "DATA": Stage("DATA", "data", b"354 go ahead\r\n", "RCPT"),
        "dot": Stage("DOT", "dot", b"250 2.0.0 queued\r\n", "DATA"),
        "QUIT": Stage("QUIT", "quit", b"221 2.0.0 bye\r\n", "DOT"),
    }


BEHAVIOURS = (
    "hang", "drop", "421", "4xx", "5xx", "garbage", "drip", "endless reply", "NUL and 8-bit", "wrong 2xx or 354",
    "reply before the command",
)  # fmt: skip
STAGES = tuple(stages(KEYWORDS))


def script_of(name: str, behaviour: str, keywords: tuple[str, ...]) -> dict[str, Behaviour | list[Behaviour]]:
    """What a server says that does this at that stage; at `connect` there is none."""
    every = stages(keywords)
    stage = every[name]
    if behaviour == "reply before the command":
        early = Say(every_due(every, stage.before) + stage.due)
        if name == "AUTH":  # behind the second EHLO: the first one's reply stands before STARTTLS
            return {"EHLO": [Say(every["EHLO"].due), early]}
        return {stage.before: early}
    code = stage.due[:3]
    odd = ehlo(keywords, b"\x00\xff test") if name == "EHLO" else code + b" \x00\xff\xe9 ok\r\n"
    behaviours: dict[str, Behaviour] = {
        "hang": HANG,
        "drop": DROP,
        "421": GOODBYE,
        "4xx": Say(b"450 4.3.0 Error: command failed\r\n"),
        "5xx": Say(b"550 5.3.0 Error: command failed\r\n"),
        "garbage": Say(b"\x16\x03\x01 what\r\n"),
        "drip": Drip(code + b" " + b"." * 200 + b"\r\n", pause=0.02),
        "endless reply": Say((code + b"-and so on\r\n") * 10_000),
        "NUL and 8-bit": Say(odd),
        "wrong 2xx or 354": Say(b"250 ok\r\n" if name == "DATA" else b"354 go ahead\r\n"),
    }
    return {stage.verb: behaviours[behaviour]}


def every_due(every: dict[str, Stage], verb: str) -> bytes:
    return next(stage.due for stage in every.values() if stage.verb == verb)


def cannot_be(name: str, behaviour: str) -> str:
    """Why there is no such case, or nothing."""
    if name == "connect" and behaviour not in ("hang", "drop"):
        return "nothing is said before there is a connection"
    if name == "banner" and behaviour == "reply before the command":
        return "the banner answers no command"
    return ""


class Bench:
    """Deliveries as the queue holds them, servers to attempt them at, and what the database has afterwards."""

    def __init__(self, db: Database, keyring: Keyring, tenant_id: UUID, authority: Authority) -> None:
        self._db = db
        self._tenant_id = tenant_id
        self._tls, self._trust = authority.server(), authority.trust()
        self._events = Events(db, keyring, max_doubts=2)
        self._turn = asyncio.Semaphore(AT_A_TIME)

    async def claim(self, count: int) -> list[Claims]:
        acceptor = Acceptor(self._db)
        for _ in range(count):
            message = new_message(message_id=uuid7(), domains=("example.net",))
            await acceptor.accept(new_request(self._tenant_id, message))
        await acceptor.close()
        taken = await deliveries.claim(self._db, Turns({COMMON_LANE: count}), lease_for=timedelta(minutes=5))
        return list(taken.claims)

    async def row(self, name: str, behaviour: str, keywords: tuple[str, ...], claims: Claims) -> str:
        """Return the row of the grid that this case comes to."""
        async with self._turn:
            recorder = Recorder()
            mail = OutgoingMail(claims, "billing@acme.example", ("maria@example.net",), RAW)
            if name == "connect":
                outcome, taken = await self._attempt_nobody(mail, behaviour, recorder)
            else:
                outcome, taken = await self._attempt(mail, name, behaviour, keywords, recorder)
            assert recorder.is_past_dot == (outcome.stage == "dot")
            assert taken <= (outcome.verdict in (Verdict.DELIVERED, Verdict.IN_DOUBT))
            await self._events.record(claims, [outcome])
        is_taken = "taken" if taken else "not taken"
        said = (outcome.verdict, f"at {outcome.stage}", outcome.reason, outcome.scope, is_taken)
        return "  ".join((name, behaviour, *said, *await self._state_of(claims)))

    async def _attempt(
        self, mail: OutgoingMail, name: str, behaviour: str, keywords: tuple[str, ...], recorder: Recorder
    ) -> tuple[Outcome, bool]:
        brief = {stages(keywords)[name].timeout: BRIEF} if behaviour in ("hang", "drip") else {}
        server = SmtpServer(
            script=script_of(name, behaviour, keywords),
            keywords=keywords,
            tls=self._tls,
            users={"user": "secret"},
        )
        async with server:
            target = parse_smtp_url(f"smtp://{LOGIN}127.0.0.1:{server.port}?tls=required")
            transport = SmtpTransport(lambda: target, timeouts=patience(**brief), trust=self._trust)
            (outcome,) = await transport.send(mail, recorder)
            await transport.close()
        assert len(server.receipts) <= 1
        return outcome, bool(server.receipts)

    async def _attempt_nobody(self, mail: OutgoingMail, behaviour: str, recorder: Recorder) -> tuple[Outcome, bool]:
        with silent_address() as silent:
            host, port = silent if behaviour == "hang" else refusing_address()
            brief = {"connect": BRIEF} if behaviour == "hang" else {}
            target = parse_smtp_url(f"smtp://{LOGIN}{host}:{port}?tls=required")
            transport = SmtpTransport(lambda: target, timeouts=patience(**brief))
            (outcome,) = await transport.send(mail, recorder)
            await transport.close()
        return outcome, False

    async def _state_of(self, claims: Claims) -> tuple[str, str, str]:
        row = await self._db.fetch_one(
            "SELECT state, attempts, next_attempt_at - now() AS wait FROM delivery WHERE message_id = $1",
            claims.message_id,
        )
        assert row
        if row["state"] in ("delivered", "bounced"):
            due = "never again"
        elif row["wait"] <= timedelta():
            due = "in its turn"
        else:
            assert timedelta(seconds=40) < row["wait"] < timedelta(seconds=75)
            due = "in a minute"
        return row["state"], "counted" if row["attempts"] else "not counted", due


def rows_of(text: str) -> list[tuple[str, ...]]:
    return [tuple(re.split(r" {2,}", line.strip())) for line in text.strip().splitlines() if line.strip()]


def test_the_grid_leaves_no_case_out() -> None:
    rows = rows_of(GRID)
    assert [row[:2] for row in rows] == list(product(STAGES, BEHAVIOURS))
    for name, behaviour, *rest in rows:
        assert (rest == [f"none: {cannot_be(name, behaviour)}"]) == bool(cannot_be(name, behaviour))


@pytest.mark.parametrize("keywords", [KEYWORDS, PIPELINED], ids=["in turn", "pipelined"])
async def test_every_case_comes_to_what_the_grid_says(
    db: Database, keyring: Keyring, tenant_id: UUID, keywords: tuple[str, ...]
) -> None:
    bench = Bench(db, keyring, tenant_id, Authority())
    cases = [case for case in product(STAGES, BEHAVIOURS) if not cannot_be(*case)]
    claims = await bench.claim(len(cases))
    rows = await asyncio.gather(*(bench.row(*case, keywords, each) for case, each in zip(cases, claims, strict=True)))
    expected = [row for row in rows_of(GRID) if not cannot_be(*row[:2])]
    assert [tuple(re.split(r" {2,}", row)) for row in rows] == expected
