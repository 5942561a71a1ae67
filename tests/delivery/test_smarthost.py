"""Conversations with a smarthost that misbehaves at every verb: what each comes to, and what arrives."""

import asyncio
from datetime import timedelta
from itertools import product

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from email_gateway.delivery.pool import PoolLimits
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import Timeouts, parse_smtp_url
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import Claims, Outcome, Phase, Verdict
from tests.delivery.attempting import BRIEF, PATIENT, RAW, Recorder, outgoing, transport_to
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


def patience(**brief: timedelta) -> Timeouts:
    """Timeouts that no busy machine reaches, but for these."""
    steps = ("connect", "tls", "greeting", "ehlo", "auth", "mail", "rcpt", "data", "block", "dot", "reset", "quit")
    return Timeouts(**(dict.fromkeys((*steps, "attempt"), PATIENT) | brief))


def verdict_of(verb: str, quirk: str) -> Verdict:
    """What must come of one recipient's mail when the server does this at that verb."""
    if verb == "QUIT":
        return Verdict.DELIVERED
    if quirk == "5xx" and verb in ("RCPT", "DOT"):
        return Verdict.BOUNCED
    if verb == "DOT" and quirk in ("hang", "drop", "garbage"):
        return Verdict.IN_DOUBT  # nobody can know whether it was taken
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


async def test_a_well_behaved_server_gets_the_mail_as_it_was_written() -> None:
    raw = b"Subject: x\r\n\r\n.\r\n..dots\r\n.end\r\n"
    async with SmtpServer() as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing("maria@example.net", raw=raw), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.code, outcome.enhanced) == (
        Verdict.DELIVERED, "dot", 250, "2.0.0"
    )  # fmt: skip
    (receipt,) = server.receipts
    assert (receipt.sender, receipt.recipients, receipt.data) == ("billing@acme.example", ("maria@example.net",), raw)


async def test_the_phases_are_reported_in_order_before_the_dot() -> None:
    recorder = Recorder()
    async with SmtpServer() as server, transport_to(server) as transport:
        await transport.send(outgoing(), recorder)
    assert recorder.phases == [(Phase.CONNECTED, 1), (Phase.RCPT_OK, 1), (Phase.DOT_PENDING, 1)]


async def test_each_recipient_has_an_outcome_of_its_own_and_only_the_accepted_are_put_in_doubt() -> None:
    recorder = Recorder()
    server = SmtpServer(unknown=frozenset({"b@example.net"}), refused={"c@example.net": b"450 4.2.1 busy\r\n"})
    recipients = tuple(f"{name}@example.net" for name in "abcd")
    async with server, transport_to(server) as transport:
        mail = outgoing(*recipients)
        outcomes = await transport.send(mail, recorder)
    assert [outcome.claim for outcome in outcomes] == list(mail.claims.each)
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.DELIVERED, Verdict.BOUNCED, Verdict.DEFERRED, Verdict.DELIVERED
    ]  # fmt: skip
    assert outcomes[1].reply == "5.1.1 <b@example.net>: recipient address rejected: no such user"
    assert server.receipts[0].recipients == ("a@example.net", "d@example.net")
    assert recorder.phases[-1] == (Phase.DOT_PENDING, 2)


async def test_a_loss_after_the_dot_puts_only_accepted_recipients_in_doubt() -> None:
    server = SmtpServer(script={"DOT": DROP}, unknown=frozenset({"b@example.net"}))
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing("a@example.net", "b@example.net"), Recorder())
    assert [outcome.verdict for outcome in outcomes] == [Verdict.IN_DOUBT, Verdict.BOUNCED]


async def test_a_loss_before_the_dot_keeps_what_the_server_had_refused() -> None:
    server = SmtpServer(script={"DATA": DROP}, unknown=frozenset({"b@example.net"}))
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing("a@example.net", "b@example.net"), Recorder())
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DEFERRED, Verdict.BOUNCED]


async def test_a_mail_that_everyone_refuses_asks_for_no_data() -> None:
    server = SmtpServer(unknown=frozenset({"a@example.net", "b@example.net"}))
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing("a@example.net", "b@example.net"), Recorder())
        delivered = await transport.send(outgoing(), Recorder())
    assert {outcome.verdict for outcome in outcomes} == {Verdict.BOUNCED}
    assert delivered[0].verdict is Verdict.DELIVERED
    assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("error", [ClaimLost("lost"), DatabaseUnavailable("away"), RuntimeError("bug")])
async def test_a_claim_that_is_lost_before_the_dot_sends_nothing(error: Exception) -> None:
    server = SmtpServer()
    async with server, transport_to(server) as transport:
        with pytest.raises(type(error)):
            await transport.send(outgoing(), Recorder(error=error))
        await transport.send(outgoing(), Recorder())
    assert len(server.receipts) == 1
    assert server.connections == 2  # the first was cut: a QUIT would have been part of the message


async def test_an_attempt_that_is_cancelled_before_the_dot_sends_nothing() -> None:
    has_come = asyncio.Event()

    async def reached(claims: Claims, phase: Phase) -> float:
        if phase is Phase.DOT_PENDING:
            has_come.set()
            await asyncio.Event().wait()
        return 0.0

    server = SmtpServer()
    async with server, transport_to(server) as transport:
        attempt = asyncio.create_task(transport.send(outgoing(), reached))
        await has_come.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    assert not server.receipts


async def test_a_connection_whose_reply_is_still_owed_is_never_used_again() -> None:
    server = SmtpServer(script={"MAIL": [HANG]})
    async with server, transport_to(server, timeouts=patience()) as transport:
        attempt = asyncio.create_task(transport.send(outgoing(), Recorder()))
        await server.has_heard("MAIL")
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert outcome.verdict is Verdict.DELIVERED
    assert server.connections == 2


async def test_a_worker_that_slept_past_its_lease_sends_nothing() -> None:
    server = SmtpServer()
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder(lease=-0.001))
    assert (outcome.verdict, outcome.reason) == (Verdict.DEFERRED, "lease_ended")
    assert not server.receipts


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
async def test_nonsense_before_the_dot_defers(verb: str, octets: bytes) -> None:
    recorder = Recorder()
    async with SmtpServer(script={verb: Say(octets)}) as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), recorder)
    assert (outcome.verdict, outcome.reason) == (Verdict.DEFERRED, "protocol_error")
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


@pytest.mark.parametrize("quirk", [DROP, Say(b"552 5.3.4 too large\r\n", close=True), GOODBYE])
async def test_a_server_that_gives_up_while_the_body_comes_gets_no_dot(quirk: Quirk | Say) -> None:
    raw = RAW + (b"x" * 70 + b"\r\n") * 200_000
    recorder = Recorder()
    server = SmtpServer(script={"BODY": quirk}, keywords=())
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(raw=raw), recorder)
    assert (outcome.verdict, outcome.stage) == (Verdict.DEFERRED, "data")
    assert not recorder.is_past_dot


async def test_a_refusal_that_comes_before_the_end_of_the_message_is_taken_for_one() -> None:
    async def wait(claims: Claims, phase: Phase) -> float:
        if phase is Phase.DOT_PENDING:
            await asyncio.sleep(0.1)  # the server answers the body in this time
        return await Recorder()(claims, phase)

    server = SmtpServer(script={"BODY": Say(b"552 5.3.4 too large\r\n")})
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), wait)
    assert (outcome.verdict, outcome.stage) == (Verdict.DEFERRED, "data")
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


async def test_a_message_over_the_declared_size_bounces_without_being_sent() -> None:
    async with SmtpServer(keywords=("SIZE 100",)) as server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(raw=RAW * 10), Recorder())
        (small,) = await transport.send(outgoing(raw=RAW), Recorder())
    assert (outcome.verdict, outcome.reason) == (Verdict.BOUNCED, "message_too_large")
    assert small.verdict is Verdict.DELIVERED
    assert server.verbs().count("MAIL") == 1


@pytest.mark.parametrize(
    "address",
    [
        "a@example.net>\r\nRCPT TO:<b@example.net",
        "a@example.net> SIZE=1",
        "a b@example.net",
        "a@example.net\x00",
        "a@example.net\x7f",
        "a\t@example.net",
        "<a@example.net",
        "jos\xe9@example.net",
        "a@example.net\n",
        "",
        "x" * 300 + "@example.net",
    ],
)
async def test_an_address_that_could_end_its_command_is_never_sent(address: str) -> None:
    async with SmtpServer() as server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing(address, "good@example.net"), Recorder())
        (as_sender,) = await transport.send(outgoing(sender=address), Recorder())
    assert [(o.verdict, o.reason) for o in outcomes] == [
        (Verdict.BOUNCED, "address_invalid"), (Verdict.DELIVERED, "accepted")
    ]  # fmt: skip
    assert (as_sender.verdict, as_sender.reason) == (Verdict.DEFERRED, "address_invalid")
    assert [heard.line for heard in server.heard if heard.line.startswith(b"RCPT")] == [b"RCPT TO:<good@example.net>"]


async def test_a_connection_is_used_again_and_one_that_died_meanwhile_is_replaced() -> None:
    server = SmtpServer()
    async with server, transport_to(server) as transport:
        await transport.send(outgoing(), Recorder())
        await transport.send(outgoing(), Recorder())
        assert server.connections == 1
        await server.stop()
        await server.__aenter__()
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert outcome.verdict is Verdict.DELIVERED
    assert server.connections == 2


@pytest.mark.parametrize("quirk", [DROP, GOODBYE])
async def test_a_kept_connection_that_dies_at_its_first_command_is_replaced_within_the_attempt(
    quirk: Quirk | Say,
) -> None:
    good = Say(b"250 2.1.0 ok\r\n")
    server = SmtpServer(script={"MAIL": [good, quirk, good]})
    async with server, transport_to(server) as transport:
        first = await transport.send(outgoing(), Recorder())
        second = await transport.send(outgoing(), Recorder())
    assert [o.verdict for o in first + second] == [Verdict.DELIVERED, Verdict.DELIVERED]
    assert server.connections == 2


async def test_a_server_that_is_not_there_defers() -> None:
    server = SmtpServer()
    async with server:
        pass
    async with transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.DEFERRED, "connect", "connect_failed")


async def test_no_outcome_and_no_mail_shows_its_values_in_a_repr() -> None:
    server = SmtpServer(unknown=frozenset({"maria@example.net"}))
    mail = outgoing("maria@example.net")
    async with server, transport_to(server) as transport:
        outcomes: list[Outcome] = await transport.send(mail, Recorder())
    assert outcomes[0].reply is not None
    assert "maria" in outcomes[0].reply
    assert "maria" not in repr(outcomes)
    assert "maria" not in repr(mail)
    assert "Friday" not in repr(mail)


class Sink:
    """Keeps what aiosmtpd was given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str | None, list[str], bytes | str | None]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        self.taken.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        return "250 2.0.0 OK"


async def test_an_independent_server_gets_the_same_mail() -> None:
    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=0)
    # Its own start connects to the port it was asked for, which is 0 here.
    server = await asyncio.get_running_loop().create_server(controller.factory, "127.0.0.1", 0)
    target = parse_smtp_url(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}?tls=none")
    transport = SmtpTransport(lambda: target, limits=PoolLimits(connections=3))
    raw = b"Subject: x\r\n\r\n.dot\r\n..\r\n" + b"y" * 900 + b"\r\n"
    mails = [outgoing(f"person{n}@example.net", "also@example.net", raw=raw) for n in range(20)]
    outcomes = await asyncio.gather(*(transport.send(mail, Recorder()) for mail in mails))
    await transport.close()
    server.close()
    assert {outcome.verdict for each in outcomes for outcome in each} == {Verdict.DELIVERED}
    assert sorted(taken[1][0] for taken in sink.taken) == sorted(f"person{n}@example.net" for n in range(20))
    assert {taken[2] for taken in sink.taken} == {raw}
