"""A smarthost that misbehaves at every verb: what each attempt comes to, and that no mail is lost or doubled."""

import asyncio
from datetime import timedelta
from itertools import product

import pytest

from email_gateway.mail.deliveries import Claims, Phase, Verdict
from tests.delivery.attempting import BRIEF, RAW, Recorder, outgoing, patience, transport_to
from tests.delivery.certificates import Authority
from tests.smtp_servers import DROP, GOODBYE, HANG, Behaviour, Drip, Quirk, Say, Script, SmtpServer

pytestmark = pytest.mark.anyio

VERBS = ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "DOT", "QUIT")
SOFT, HARD = Say(b"450 4.3.0 Error: command failed\r\n"), Say(b"550 5.3.0 Error: command failed\r\n")
GARBAGE = Say(b"\x16\x03\x01 what\r\n")
QUIRKS: dict[str, Behaviour] = {
    "hang": HANG, "drop": DROP, "421": GOODBYE, "4xx": SOFT, "5xx": HARD, "garbage": GARBAGE
}  # fmt: skip
REASONS = {"hang": "timeout", "drop": "connection_lost", "421": "service_closing", "garbage": "protocol_error"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def verdict_of(verb: str, quirk: str) -> Verdict:
    """What must come of one recipient's mail when the server does this at that verb."""
    if verb == "QUIT":
        return Verdict.DELIVERED
    if quirk == "5xx" and verb in ("RCPT", "DOT"):
        return Verdict.BOUNCED
    if verb == "DOT" and quirk in ("hang", "drop", "garbage"):
        return Verdict.IN_DOUBT  # nobody can know whether it was taken
    if quirk == "421" or verb not in ("RCPT", "DATA", "DOT"):
        return Verdict.HELD  # it is about the route or us, and costs no attempt
    return Verdict.DEFERRED


@pytest.mark.parametrize(("verb", "quirk"), list(product(VERBS, QUIRKS)))
async def test_whatever_happens_at_a_verb_no_mail_is_lost_or_doubled(
    authority: Authority, verb: str, quirk: str
) -> None:
    step = {"CONNECT": "greeting", "STARTTLS": "tls"}.get(verb, verb.lower())
    timeouts = patience(**({step: BRIEF} if quirk == "hang" else {}))
    recorder = Recorder()
    server = SmtpServer(script={verb: QUIRKS[quirk]}, tls=authority.server(), users={"user": "secret"})
    async with (
        server,
        transport_to(server, "required", user="user:secret@", timeouts=timeouts, trust=authority.trust()) as transport,
    ):
        (outcome,) = await transport.send(outgoing(), recorder)
    assert outcome.verdict is verdict_of(verb, quirk)
    assert len(server.receipts) == (1 if verb == "QUIT" else 0)
    assert recorder.is_past_dot == (verb in ("DOT", "QUIT"))
    if verb != "QUIT":
        assert outcome.stage == verb.lower()
        assert outcome.reason == REASONS.get(quirk, outcome.reason)
        assert outcome.code == {"421": 421, "4xx": 450, "5xx": 550}.get(quirk)


@pytest.mark.parametrize(
    ("verb", "octets"),
    [
        ("MAIL", b"250 ok\r\n550 no\r\n"),
        ("RCPT", b"550 no\r\n250 ok\r\n"),
        ("RCPT", b"250 ok\r\n250 ok\r\n"),
        ("DATA", b"250 go ahead\r\n"),
        ("DATA", b"354 go\r\n250 queued\r\n"),
        ("MAIL", b"354 go\r\n"),
        ("RCPT", b"354 go\r\n"),
        ("DATA", b"334 x\r\n"),
        ("EHLO", b"334 x\r\n"),
        ("MAIL", b"250-a\r\n550 b\r\n"),
        ("CONNECT", b"HTTP/1.1 400 Bad Request\r\n"),
        ("EHLO", b"250-" + b"x" * 5000 + b"\r\n"),
        ("EHLO", b"250-x\r\n" * 20_000),
        ("EHLO", b"2" * 1_000_000),
        ("RCPT", b"550 \x00\xff\r\n250 "),
    ],
)
async def test_nonsense_before_the_dot_sends_nothing_and_bounces_nobody(verb: str, octets: bytes) -> None:
    recorder = Recorder()
    async with SmtpServer(script={verb: Say(octets)}) as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), recorder)
    verdict = Verdict.DEFERRED if verb in ("RCPT", "DATA") else Verdict.HELD
    assert (outcome.verdict, outcome.reason) == (verdict, "protocol_error")
    assert not recorder.is_past_dot


@pytest.mark.parametrize(
    "octets",
    [
        b"250 ok\r\n550 no\r\n",
        b"550 no\r\n250 ok\r\n",
        b"250 ok\r\n250 ok\r\n",
        b"250 ok\r\ngarbage\r\n",
        b"250-ok\r\n550 no\r\n",
        b"354 more\r\n",
        b"334 x\r\n",
        b"250 ok\n",
    ],
)
async def test_nonsense_after_the_dot_is_in_doubt_and_never_delivered(octets: bytes) -> None:
    async with SmtpServer(script={"DOT": Say(octets)}) as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert (outcome.verdict, outcome.reason) == (Verdict.IN_DOUBT, "protocol_error")


async def test_a_goodbye_behind_the_answer_to_the_dot_takes_nothing_back() -> None:
    script: Script = {"DOT": [Say(b"250 2.0.0 ok\r\n421 4.3.2 closing\r\n", close=True)]}
    async with SmtpServer(script=script) as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
        (second,) = await transport.send(outgoing(), Recorder())
    assert outcome.verdict is second.verdict is Verdict.DELIVERED
    assert server.connections == 2


async def test_a_reply_that_drips_is_cut_off_at_the_timeout_of_the_whole() -> None:
    script = {"RCPT": Drip(b"250 ok" + b"." * 1000 + b"\r\n", pause=0.02)}
    async with (
        SmtpServer(script=script) as server,
        transport_to(server, timeouts=patience(rcpt=BRIEF)) as transport,
    ):
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.DEFERRED, "rcpt", "timeout")


@pytest.mark.parametrize("tls", ["none", "required"])
async def test_a_server_that_stops_reading_ends_the_attempt_before_the_dot(authority: Authority, tls: str) -> None:
    recorder = Recorder()
    raw = RAW + (b"x" * 70 + b"\r\n") * 200_000
    async with (
        SmtpServer(script={"BODY": HANG}, keywords=(), tls=authority.server()) as server,
        transport_to(server, tls, timeouts=patience(block=BRIEF), trust=authority.trust()) as transport,
    ):
        (outcome,) = await transport.send(outgoing(raw=raw), recorder)
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.DEFERRED, "data", "timeout")
    assert not recorder.is_past_dot


async def test_the_whole_attempt_has_an_end() -> None:
    async with (
        SmtpServer(script={"RCPT": HANG}) as server,
        transport_to(server, timeouts=patience(attempt=BRIEF)) as transport,
    ):
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.DEFERRED, "rcpt", "timeout")


@pytest.mark.parametrize(
    ("quirk", "verdict"),
    [
        (DROP, Verdict.DEFERRED),
        (Say(b"552 5.3.4 too large\r\n", close=True), Verdict.BOUNCED),
        (GOODBYE, Verdict.HELD),
    ],
)
async def test_a_server_that_gives_up_while_the_body_comes_gets_no_dot(quirk: Quirk | Say, verdict: Verdict) -> None:
    raw = RAW + (b"x" * 70 + b"\r\n") * 200_000
    recorder = Recorder()
    server = SmtpServer(script={"BODY": quirk}, keywords=())
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(raw=raw), recorder)
    assert (outcome.verdict, outcome.stage) == (verdict, "data")
    assert not recorder.is_past_dot


async def test_a_refusal_that_comes_before_the_end_of_the_message_is_taken_for_one() -> None:
    async def wait(claims: Claims, phase: Phase) -> float:
        if phase is Phase.DOT_PENDING:
            await asyncio.sleep(0.1)  # the server answers the body in this time
        return await Recorder()(claims, phase)

    server = SmtpServer(script={"BODY": Say(b"552 5.3.4 too large\r\n")})
    raw = RAW + (b"x" * 70 + b"\r\n") * 300  # more than leaves in one write with its dot
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(raw=raw), wait)
    assert (outcome.verdict, outcome.stage) == (Verdict.BOUNCED, "data")
    assert (outcome.reason, outcome.code) == ("message_too_large", 552)
    assert not server.receipts


async def test_the_end_of_the_attempt_cuts_no_answer_to_the_dot_short() -> None:
    async def wait(claims: Claims, phase: Phase) -> float:
        if phase is Phase.DOT_PENDING:
            await asyncio.sleep(1.05)
        return await Recorder()(claims, phase)

    async with (
        SmtpServer() as server,
        transport_to(server, timeouts=patience(attempt=timedelta(seconds=1))) as transport,
    ):
        (outcome,) = await transport.send(outgoing(), wait)
    assert outcome.verdict is Verdict.DELIVERED


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_a_connection_that_said_421_is_left_though_it_stays_open(verb: str) -> None:
    server = SmtpServer(script={verb: [Say(b"421 4.3.2 closing\r\n")]})
    async with server, transport_to(server) as transport:
        (held,) = await transport.send(outgoing(), Recorder())
        (delivered,) = await transport.send(outgoing(), Recorder())
    assert (held.verdict, held.reason) == (Verdict.HELD, "service_closing")
    assert delivered.verdict is Verdict.DELIVERED
    assert server.connections == 2
