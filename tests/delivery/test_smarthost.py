"""Conversations with a smarthost: envelopes, recipients, claims, connections that are used again."""

import asyncio
import email
import email.policy
import math
import uuid
from datetime import UTC, datetime

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from email_gateway.delivery.pool import PoolLimits
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import parse_smtp_url
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.compose import compose
from email_gateway.mail.content import Address, Content
from email_gateway.mail.deliveries import Claims, Outcome, Phase, Scope, Verdict
from tests.delivery.attempting import RAW, Recorder, outgoing, transport_to
from tests.smtp_servers import DROP, GOODBYE, HANG, Quirk, Say, SmtpServer

pytestmark = pytest.mark.anyio


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
    assert recorder.phases == [
        (Phase.COMPOSED, 1), (Phase.CONNECTED, 1), (Phase.RCPT_OK, 1), (Phase.DOT_PENDING, 1)
    ]  # fmt: skip


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


@pytest.mark.parametrize("error", [ClaimLost("held by another worker"), DatabaseUnavailable("away")])
async def test_a_claim_that_is_lost_before_a_second_transaction_keeps_what_the_first_one_heard(
    error: Exception,
) -> None:
    dots = 0

    async def reached(_claims: Claims, phase: Phase) -> float:
        nonlocal dots
        dots += phase is Phase.DOT_PENDING
        if dots == 2:
            raise error
        return math.inf

    server = SmtpServer(script={"RCPT": [Say(b"250 2.1.5 ok\r\n"), Say(b"452 4.5.3 too many recipients\r\n")]})
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing("a@example.net", "b@example.net"), reached)
    assert [(outcome.verdict, outcome.reason) for outcome in outcomes] == [
        (Verdict.DELIVERED, "accepted"), (Verdict.HELD, "lease_ended")
    ]  # fmt: skip
    assert len(server.receipts) == 1


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
    async with server, transport_to(server) as transport:
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
    assert (outcome.verdict, outcome.reason) == (Verdict.HELD, "lease_ended")
    assert not server.receipts


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
    assert (as_sender.verdict, as_sender.reason) == (Verdict.HELD, "address_invalid")
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


async def test_a_server_that_is_not_there_holds_the_mail() -> None:
    server = SmtpServer()
    async with server:
        pass
    async with transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "connect", "connect_failed")


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


async def test_no_more_recipients_are_named_at_once_than_the_server_is_known_to_take() -> None:
    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=0)
    server = await asyncio.get_running_loop().create_server(controller.factory, "127.0.0.1", 0)
    target = parse_smtp_url(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}?tls=none")
    transport = SmtpTransport(lambda: target, most_recipients=2)
    outcomes = await transport.send(outgoing(*(f"person{n}@example.net" for n in range(5))), Recorder())
    await transport.close()
    server.close()
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    assert [len(taken[1]) for taken in sink.taken] == [2, 2, 1]


UTF8_SERVER = ("SIZE 10485760", "8BITMIME", "SMTPUTF8")
UTF8_HEAD = "From: billing@acme.example\r\nTo: josé@example.net, ana@example.net\r\n\r\nDue.\r\n".encode()


async def test_a_mail_that_needs_smtputf8_says_so_where_the_server_offers_it_and_no_other_mail_does() -> None:
    server = SmtpServer(keywords=UTF8_SERVER)
    async with server, transport_to(server) as transport:
        (international,) = await transport.send(outgoing("josé@example.net"), Recorder())
        (plain,) = await transport.send(outgoing(), Recorder())
        head = await transport.send(outgoing("ana@example.net", raw=UTF8_HEAD), Recorder())
    assert {outcome.verdict for outcome in (international, plain, *head)} == {Verdict.DELIVERED}
    mails = [heard.line for heard in server.heard if heard.line.startswith(b"MAIL")]
    assert [line.endswith(b" SMTPUTF8") for line in mails] == [True, False, True]
    assert server.receipts[0].recipients == ("josé@example.net",)
    assert server.receipts[2].data == UTF8_HEAD


async def test_without_smtputf8_only_whoever_needs_it_bounces_with_that_reason() -> None:
    server = SmtpServer()
    async with server, transport_to(server) as transport:
        hidden, plain = await transport.send(outgoing("josé@example.net", "ana@example.net"), Recorder())
        everybody = await transport.send(outgoing("josé@example.net", "ana@example.net", raw=UTF8_HEAD), Recorder())
        sender = await transport.send(outgoing("ana@example.net", sender="josé@acme.example"), Recorder())
    assert plain.verdict is Verdict.DELIVERED
    for outcome in (hidden, *everybody, *sender):
        assert (outcome.verdict, outcome.reason) == (Verdict.BOUNCED, "smtputf8_not_offered")
        assert outcome.scope is Scope.MESSAGE
    assert [receipt.recipients for receipt in server.receipts] == [("ana@example.net",)]
    assert server.connections == 1


async def test_an_independent_server_gets_a_mail_with_addresses_beyond_ascii() -> None:
    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=0)
    server = await asyncio.get_running_loop().create_server(controller.factory, "127.0.0.1", 0)
    target = parse_smtp_url(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}?tls=none")
    transport = SmtpTransport(lambda: target)
    content = Content(
        sender=Address("fatura@acme.example", "Acme"),
        envelope=("josé@example.net",),
        subject="Cobrança",
        to=(Address("josé@example.net", "José, o Primeiro"),),
        text="Até sexta.",
    )
    raw = compose(content, [], message_id=uuid.uuid4(), created_at=datetime.now(UTC))
    (outcome,) = await transport.send(outgoing("josé@example.net", raw=raw), Recorder())
    await transport.close()
    server.close()
    assert outcome.verdict is Verdict.DELIVERED
    ((_, recipients, octets),) = sink.taken
    assert recipients == ["josé@example.net"]
    assert isinstance(octets, bytes)
    read = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert str(read["To"]) == '"José, o Primeiro" <josé@example.net>'
    assert read["Subject"] == "Cobrança"


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
