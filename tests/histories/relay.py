"""The server of a history, and the conversations with it: it answers what the history says, and knows what it took.

The conversation is the product's own; what stands in for SMTP is a connection that waits at each step.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from email_gateway.delivery.conversation import Conversation, Manners
from email_gateway.delivery.outgoing import OutgoingMail, Reached
from email_gateway.delivery.replies import Stage
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.smtp import Answers, ConversationFailed, SmtpConnection
from email_gateway.mail.deliveries import Claims, Outcome, Phase
from tests.histories.journal import Key

if TYPE_CHECKING:
    from tests.histories.deliveries_world import Worker

OK = "250 2.0.0 Ok"


class Stop(StrEnum):
    """Where an attempt waits for the history to go on."""

    COMPOSING = "composing"
    CONNECTING = "connecting"
    NAMING = "naming"
    DOT = "dot"
    REPLY = "reply"


# What may be said at each stop; CLOSED is said by nobody. At the dot TAKEN alone means that the server has it.
CLOSED = ""
TAKEN = "taken"
THROTTLED = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
BUSY = "421 4.3.2 Service not available, closing transmission channel"
ANSWERS: dict[Stop, tuple[str, ...]] = {
    Stop.COMPOSING: (OK,),
    Stop.CONNECTING: (OK, OK, OK, OK, OK, OK, CLOSED, BUSY, "535 5.7.8 Authentication credentials invalid"),
    Stop.NAMING: (
        OK,
        OK,
        OK,
        OK,
        OK,
        OK,
        CLOSED,
        BUSY,
        THROTTLED,
        "550 5.1.1 No such user",
        "451 4.7.1 Greylisted, try again later",
        "452 4.5.3 Too many recipients",
        "553 5.7.1 Sender address rejected: not owned by user",
    ),
    Stop.DOT: (
        TAKEN,
        TAKEN,
        TAKEN,
        CLOSED,
        BUSY,
        THROTTLED,
        "451 4.3.0 Try again later",
        "554 5.6.0 Message content rejected",
        "554 Message rejected: Sending paused for this account",
    ),
    Stop.REPLY: (OK, OK, CLOSED),
}


@dataclass(eq=False)
class Attempt:
    """One attempt under way, and what it waits for."""

    worker: "Worker"
    claims: Claims
    in_transaction: tuple[Key, ...] = ()
    stop: Stop | None = None
    _go: "asyncio.Future[str] | None" = field(default=None, repr=False)

    @property
    def tokens(self) -> frozenset[str]:
        """The tokens under which this transaction's recipients are held."""
        numbers = {number for _, number in self.in_transaction}
        return frozenset(str(claim.token) for claim in self.claims.each if claim.recipient in numbers)

    async def at(self, stop: Stop) -> str:
        self.stop, self._go = stop, asyncio.get_running_loop().create_future()
        try:
            return await self._go
        finally:
            self.stop = None

    def go(self, answer: str) -> None:
        assert self._go is not None
        self._go.set_result(answer)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker heard of one delivery, and when."""

    worker: "Worker"
    outcome: Outcome
    at: float


class Relay:
    """The server: what it took, what it was asked, and what workers heard from it."""

    def __init__(self) -> None:
        self.under_way: list[Attempt] = []
        self.taken: Counter[Key] = Counter()
        self.heard: list[Heard] = []
        self.fresh_dots: list[frozenset[str]] = []  # the tokens of each since the last look

    def waiting(self) -> list[Attempt]:
        """The attempts that wait, of workers that are not paused."""
        return [attempt for attempt in self.under_way if attempt.stop and not attempt.worker.is_paused]

    def take(self, keys: Iterable[Key]) -> None:
        self.taken.update(keys)


class Transport:
    """One worker's way to the relay, in the place of the product's own pool of connections."""

    def __init__(self, relay: Relay, worker: "Worker") -> None:
        self._relay = relay
        self._worker = worker
        self._manners = Manners()

    async def send(self, mail: OutgoingMail, reached: Reached) -> list[Outcome]:
        attempt = Attempt(self._worker, mail.claims)
        self._relay.under_way.append(attempt)
        try:
            await attempt.at(Stop.COMPOSING)
            await reached(mail.claims, Phase.COMPOSED)
            conversation = Conversation(mail, b"", reached, self._manners)
            try:
                _proceed(Stage.CONNECT, await attempt.at(Stop.CONNECTING))
                await conversation.run(cast("SmtpConnection", Connection(self._relay, attempt)))
            except ConversationFailed as failed:
                conversation.settle_rest(failed)
            now = self._worker.time.seconds
            self._relay.heard.extend(Heard(self._worker, outcome, now) for outcome in conversation.outcomes)
            return conversation.outcomes
        finally:
            self._relay.under_way.remove(attempt)

    async def close(self) -> None:
        """Nothing is open."""


class Connection:
    """What a conversation needs of a connection; the history says what the server answers."""

    size_limit = None
    offers_size = False
    offers_pipelining = True
    offers_smtputf8 = False

    def __init__(self, relay: Relay, attempt: Attempt) -> None:
        self._relay = relay
        self._attempt = attempt

    async def begin(self, mail: bytes, recipients: Sequence[bytes], **_: object) -> Answers:
        self._attempt.in_transaction = ()
        try:
            answer = _proceed(Stage.MAIL, await self._attempt.at(Stop.NAMING))
        except ConversationFailed as failed:
            return Answers(failed=failed)
        if answer.code == 553:
            return Answers(answer)
        # Too many are so from the second on; anything else is said of the first.
        said = [_reply(OK), answer] if answer.code == 452 else [answer]
        replies = [said[place] if place < len(said) else _reply(OK) for place in range(len(recipients))]
        self._attempt.in_transaction = tuple(
            (self._attempt.claims.message_id, recipient_of(command.decode()))
            for command, reply in zip(recipients, replies, strict=True)
            if reply.is_positive
        )
        return Answers(_reply(OK), replies)

    async def send(self, data: bytes) -> None:
        """Send the content without its dot."""

    async def finish(self, *_: object) -> Reply:
        self._relay.fresh_dots.append(self._attempt.tokens)
        answer = await self._attempt.at(Stop.DOT)
        if answer != TAKEN:
            return _proceed(Stage.DOT, answer)
        self._relay.take(self._attempt.in_transaction)
        return _proceed(Stage.DOT, await self._attempt.at(Stop.REPLY))


def recipient_of(address: str) -> int:
    """Return the place in the envelope that an address of a history's mail names."""
    return int(address.partition("@")[0].rpartition(".")[2])


def _proceed(stage: Stage, answer: str) -> Reply:
    """Return the reply, or end the conversation as the product's own connection would."""
    if answer == CLOSED:
        raise ConversationFailed(stage, "connect_failed" if stage is Stage.CONNECT else "connection_lost")
    reply = _reply(answer)
    if reply.is_closing:
        raise ConversationFailed(stage, "service_closing", reply)
    if stage is Stage.CONNECT and not reply.is_positive:
        raise ConversationFailed(Stage.AUTH, "auth_failed", reply)
    return reply


def _reply(answer: str) -> Reply:
    code, _, text = answer.partition(" ")
    return Reply(int(code), (text.encode(),))
