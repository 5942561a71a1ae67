"""Commands in groups (RFC 2920): judged as one by one, given up where a server does not bear them, and never a dot too early."""

import asyncio
import time
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from email_gateway.delivery.target import Timeouts
from email_gateway.mail.deliveries import Claims, Outcome, Phase, Verdict
from tests.delivery.attempting import RAW, Recorder, outgoing, transport_to
from tests.smtp_servers import DROP, HANG, KEYWORDS, PIPELINED, Behaviour, Quirk, Say, Script, SmtpServer

pytestmark = pytest.mark.anyio

ACCEPTED = b"250 2.1.5 ok\r\n"
UNKNOWN = b"550 5.1.1 no such user\r\n"
FULL = b"452 4.5.3 too many recipients\r\n"
# A full server is another matter: in a group it is asked about everybody, in turn about nobody more.
AT_RCPT = (ACCEPTED, UNKNOWN, b"450 4.2.1 busy\r\n", b"550 5.7.1 relay access denied\r\n")
AT_MAIL = (
    None,
    Say(b"451 4.3.0 later\r\n"),
    Say(b"553 5.7.1 not yours\r\n"),
    Say(b"421 4.3.2 bye\r\n", close=True),
    DROP,
)
AT_DATA = (None, Say(b"451 4.3.0 later\r\n"), Say(b"554 5.6.0 refused\r\n"), Say(b"421 4.3.2 bye\r\n", close=True))
AT_DOT = (None, Say(b"451 4.3.0 later\r\n"), Say(b"554 5.7.1 spam\r\n"), DROP)
SMALL_GROUP = b"MAIL FROM:<billing@acme.example> SIZE=%d\r\nRCPT TO:<maria@example.net>\r\nDATA\r\n" % len(RAW)
IN_TURN = (b"MAIL FROM:<billing@acme.example> SIZE=%d\r\n" % len(RAW), b"RCPT TO:<maria@example.net>\r\n", b"DATA\r\n")


async def test_a_mail_takes_two_writes_and_the_dot_waits_for_its_commit() -> None:
    server = SmtpServer(keywords=PIPELINED)
    before_the_commit: list[bytes] = []

    async def reached(_claims: Claims, phase: Phase) -> float:
        if phase is Phase.DOT_PENDING:
            before_the_commit.extend(server.pieces)
        return time.monotonic() + 60

    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), reached)
    assert outcome.verdict is Verdict.DELIVERED
    assert before_the_commit[1:] == [SMALL_GROUP]
    assert server.pieces[1:3] == [SMALL_GROUP, RAW + b".\r\n"]


async def test_without_the_offer_every_command_waits_for_its_answer() -> None:
    async with SmtpServer(keywords=KEYWORDS) as server, transport_to(server) as transport:
        await transport.send(outgoing(), Recorder())
    assert tuple(server.pieces[1:4]) == IN_TURN


async def test_what_an_earlier_mail_left_behind_is_cleared_in_the_same_group() -> None:
    server = SmtpServer(keywords=PIPELINED, unknown=frozenset({"a@example.net"}))
    async with server, transport_to(server) as transport:
        (bounced,) = await transport.send(outgoing("a@example.net"), Recorder())
        (delivered,) = await transport.send(outgoing(), Recorder())
    assert (bounced.verdict, delivered.verdict) == (Verdict.BOUNCED, Verdict.DELIVERED)
    assert b"RSET\r\n" + SMALL_GROUP in server.pieces
    assert server.connections == 1


async def test_a_hundred_recipients_are_named_and_answered_in_one_group() -> None:
    recipients = tuple(f"person{number}@example.net" for number in range(100))
    unknown = frozenset(recipients[::7])
    server = SmtpServer(keywords=PIPELINED, unknown=unknown)
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing(*recipients), Recorder())
    assert server.receipts[0].recipients == tuple(to for to in recipients if to not in unknown)
    verdicts = [Verdict.BOUNCED if to in unknown else Verdict.DELIVERED for to in recipients]
    assert [outcome.verdict for outcome in outcomes] == verdicts


async def test_the_recipients_that_a_full_server_refused_follow_and_the_next_mail_knows() -> None:
    refusals: list[Behaviour] = [Say(ACCEPTED), Say(ACCEPTED), Say(FULL), Say(FULL)]
    server = SmtpServer(keywords=PIPELINED, script={"RCPT": [*refusals, *[Say(b"250 2.1.5 ok\r\n")] * 20]})
    recipients = tuple(f"{name}@example.net" for name in "abcd")
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing(*recipients), Recorder())
        await transport.send(outgoing(*recipients), Recorder())
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    assert [receipt.recipients for receipt in server.receipts] == [recipients[:2], recipients[2:]] * 2


@pytest.mark.parametrize("keywords", [KEYWORDS, PIPELINED])
async def test_a_loss_after_the_dot_is_no_doubt_for_whom_the_server_had_no_room(keywords: tuple[str, ...]) -> None:
    server = SmtpServer(keywords=keywords, refused={"b@example.net": FULL}, script={"DOT": DROP})
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing("a@example.net", "b@example.net"), Recorder())
    assert [(outcome.verdict, outcome.stage) for outcome in outcomes] == [
        (Verdict.IN_DOUBT, "dot"),
        (Verdict.HELD, "mail"),
    ]


async def test_no_dot_is_sent_where_nobody_was_accepted_and_the_server_asks_for_a_message_all_the_same() -> None:
    server = SmtpServer(keywords=PIPELINED, unknown=frozenset({"a@example.net"}), takes_empty=True)
    recorder = Recorder()
    async with server, transport_to(server) as transport:
        (bounced,) = await transport.send(outgoing("a@example.net"), recorder)
        (delivered,) = await transport.send(outgoing(), Recorder())
        (again,) = await transport.send(outgoing("a@example.net"), Recorder())
    assert (bounced.verdict, bounced.stage, bounced.reason) == (Verdict.BOUNCED, "rcpt", "mailbox_unknown")
    assert (delivered.verdict, again.verdict) == (Verdict.DELIVERED, Verdict.BOUNCED)
    assert not recorder.is_past_dot
    assert [receipt.recipients for receipt in server.receipts] == [("maria@example.net",)]
    assert server.connections == 2  # and from the second on it is asked in turn, and so for no message


async def test_a_sender_refused_beside_a_354_sends_nothing_either() -> None:
    script: Script = {"MAIL": [Say(b"553 5.1.8 not yours\r\n")]}
    server = SmtpServer(keywords=PIPELINED, script=script, takes_empty=True)
    async with server, transport_to(server) as transport:
        (held,) = await transport.send(outgoing(), Recorder())
    assert (held.verdict, held.stage, held.reason) == (Verdict.HELD, "mail", "sender_refused")
    assert not server.receipts


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "octets", [b"250 ok\r\n250 ok\r\n", b"550 5.1.1 no\r\n250 ok\r\n", b"what?\r\n", b"250-ok\r\n550 no\r\n"]
)
async def test_a_server_that_answers_out_of_step_is_asked_in_turn_within_the_attempt(verb: str, octets: bytes) -> None:
    server = SmtpServer(keywords=PIPELINED, script={verb: [Say(octets)]})
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.send(outgoing(), Recorder())
    assert outcome.verdict is Verdict.DELIVERED
    assert len(server.receipts) == 2
    assert server.connections == 2
    assert [piece for piece in server.pieces if piece == SMALL_GROUP] == [SMALL_GROUP]


async def test_a_server_that_loses_what_came_with_a_command_is_asked_in_turn_the_next_time() -> None:
    server = SmtpServer(keywords=PIPELINED, reads_one=True)
    timeouts = Timeouts(rcpt=timedelta(milliseconds=200))
    async with server, transport_to(server, timeouts=timeouts) as transport:
        (lost,) = await transport.send(outgoing(), Recorder())
        (taken,) = await transport.send(outgoing(), Recorder())
    assert (lost.verdict, lost.stage, lost.reason) == (Verdict.DEFERRED, "rcpt", "timeout")
    assert taken.verdict is Verdict.DELIVERED
    assert len(server.receipts) == 1


@pytest.mark.parametrize(("quirk", "reason"), [(HANG, "timeout"), (DROP, "connection_lost")])
async def test_a_server_that_has_answered_a_whole_group_is_not_suspected_when_one_ends_early(
    quirk: Quirk, reason: str
) -> None:
    server = SmtpServer(keywords=PIPELINED, script={"RCPT": [Say(ACCEPTED), quirk]})
    async with server, transport_to(server, timeouts=Timeouts(rcpt=timedelta(milliseconds=200))) as transport:
        outcomes = [(await transport.send(outgoing(), Recorder()))[0] for _ in range(3)]
    assert [(outcome.verdict, outcome.reason) for outcome in outcomes] == [
        (Verdict.DELIVERED, "accepted"),
        (Verdict.DEFERRED, reason),
        (Verdict.DELIVERED, "accepted"),
    ]
    assert server.pieces.count(SMALL_GROUP) == 3
    assert server.connections == 2


def script_of(at_mail: Behaviour | None, at_data: Behaviour | None, at_dot: Behaviour | None) -> dict[str, Behaviour]:
    chosen = {"MAIL": at_mail, "DATA": at_data, "DOT": at_dot}
    return {verb: behaviour for verb, behaviour in chosen.items() if behaviour is not None}


async def outcomes_of(
    keywords: tuple[str, ...], replies: list[bytes], script: dict[str, Behaviour]
) -> tuple[list[Outcome], list[tuple[str, ...]], list[tuple[Phase, int]]]:
    recipients = tuple(f"r{number}@example.net" for number in range(len(replies)))
    refused = {to: reply for to, reply in zip(recipients, replies, strict=True) if reply != ACCEPTED}
    server = SmtpServer(keywords=keywords, script=script, refused=refused)
    recorder = Recorder()
    async with server, transport_to(server) as transport:
        outcomes = await transport.send(outgoing(*recipients), recorder)
    return outcomes, [receipt.recipients for receipt in server.receipts], recorder.phases


@settings(max_examples=80, deadline=None)
@given(
    replies=st.lists(st.sampled_from(AT_RCPT), min_size=1, max_size=5),
    script=st.builds(script_of, st.sampled_from(AT_MAIL), st.sampled_from(AT_DATA), st.sampled_from(AT_DOT)),
)
def test_whatever_a_server_answers_the_outcome_is_that_of_lock_step(
    replies: list[bytes], script: dict[str, Behaviour]
) -> None:
    in_turn, taken_in_turn, phases_in_turn = asyncio.run(outcomes_of(KEYWORDS, replies, script))
    at_once, taken_at_once, phases_at_once = asyncio.run(outcomes_of(PIPELINED, replies, script))

    def essence(outcomes: list[Outcome]) -> list[tuple[object, ...]]:
        return [(o.verdict, o.stage, o.reason, o.code, o.enhanced, o.scope, o.reply) for o in outcomes]

    assert essence(at_once) == essence(in_turn)
    assert taken_at_once == taken_in_turn
    assert phases_at_once == phases_in_turn
