"""The `smtp` transport: mail leaves through a smarthost, over connections that are kept."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from email_gateway.delivery.data import encode_data
from email_gateway.delivery.opening import Terms, open_connection
from email_gateway.delivery.outgoing import LARGE_OCTETS, OutgoingMail, Reached
from email_gateway.delivery.pool import Pool, PoolLimits
from email_gateway.delivery.replies import Ruling, Stage, explain, rule, rule_failure
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.smtp import ConversationFailed, InvalidArgument, SmtpConnection
from email_gateway.delivery.target import SmtpTarget, Timeouts
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import Claim, Hardness, Outcome, Phase
from email_gateway.observe import get_logger

log = get_logger(__name__)


class SmtpTransport:
    """Hands mail to a smarthost, each message in one transaction with all its recipients.

    `find_target` is asked before every new connection, so that a rotated password is used without
    a restart. `trust` replaces the system's certificate authorities. `most_recipients` in one
    transaction is what is known before the server says so.
    """

    def __init__(
        self,
        find_target: Callable[[], SmtpTarget],
        *,
        timeouts: Timeouts | None = None,
        limits: PoolLimits | None = None,
        trust: ssl.SSLContext | None = None,
        most_recipients: int | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._manners = Manners(most_recipients)
        terms = Terms(self._timeouts, trust)
        self._pool = Pool(lambda until: open_connection(find_target(), terms, until), limits or PoolLimits())

    async def send(self, mail: OutgoingMail, reached: Reached) -> list[Outcome]:
        """Hold one conversation and return an outcome for each claim.

        A connection that was kept and turns out to be dead before the transaction began is
        replaced once by a new one.
        """
        until = time.monotonic() + self._timeouts.attempt.total_seconds()
        is_large = len(mail.raw) > LARGE_OCTETS
        data = await asyncio.to_thread(encode_data, mail.raw) if is_large else encode_data(mail.raw)
        await reached(mail.claims, Phase.COMPOSED)
        conversation = Conversation(mail, data, reached, self._manners)
        try:
            if not await self._converse(conversation, until):
                await self._converse(conversation, until, fresh=True)
        except ConversationFailed as failed:
            log.warning("smtp_failed", stage=failed.stage, reason=failed.reason, smtp_code=_code(failed.reply))
            conversation.settle_rest(failed)
        return conversation.outcomes

    async def close(self) -> None:
        """Say QUIT on every idle connection."""
        await self._pool.close()

    async def _converse(self, conversation: "Conversation", until: float, *, fresh: bool = False) -> bool:
        """Hold the conversation; False when the connection was kept from before and had died meanwhile."""
        async with self._pool.connection(until, fresh=fresh) as connection:
            was_kept = connection.messages > 0
            try:
                await conversation.run(connection)
            except ConversationFailed as failed:
                if was_kept and not fresh and failed.stage is Stage.MAIL and _is_stale(failed):
                    connection.abort()
                    return False
                raise
        return True


@dataclass(slots=True)
class Manners:
    """What a server has taught, or is known to want: how many recipients it takes in one transaction."""

    most_recipients: int | None = None


class Conversation:
    """One message to its recipients over one connection; settles every claim exactly once."""

    def __init__(self, mail: OutgoingMail, data: bytes, reached: Reached, manners: Manners) -> None:
        self._mail = mail
        self._data = data
        self._reached = reached
        self._manners = manners
        self._addresses = {claim.token: to for claim, to in zip(mail.claims.each, mail.recipients, strict=True)}
        self._settled: dict[UUID, Outcome] = {}

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of each claim, in the order of the claims."""
        return [self._settled[claim.token] for claim in self._mail.claims.each]

    async def run(self, connection: SmtpConnection) -> None:
        """Send the message; raises ConversationFailed, and what `reached` raises while nobody is settled.

        What one transaction has no room for follows in the next one at once (RFC 5321 section 4.5.3.1.10).
        """
        await self._reached(self._mail.claims, Phase.CONNECTED)
        if not connection.offers_smtputf8:
            self._settle_international()
        while left := self._unsettled():
            try:
                await self._transact(connection, left[: self._manners.most_recipients])
            except (ClaimLost, DatabaseUnavailable):
                if not self._settled:
                    raise
                # What the server said of the others must be written, or they would be sent again.
                raise ConversationFailed(Stage.DATA, "lease_ended") from None

    def _settle_international(self) -> None:
        """Settle whom only a server that offers SMTPUTF8 can be asked about: the address has no other form."""
        for claim in self._unsettled():
            if self._mail.is_international or not self._addresses[claim.token].isascii():
                self._add(claim, Stage.MAIL, rule_failure(Stage.MAIL, "smtputf8_not_offered"))

    def settle_rest(self, failed: ConversationFailed) -> None:
        """Settle the claims that have no outcome yet with what ended the conversation."""
        # What was said to a login has been cut down to its code: the reason was read before.
        if failed.reply is None or failed.stage is Stage.AUTH:
            ruling = rule_failure(failed.stage, failed.reason)
        else:
            ruling = rule(failed.stage, failed.reply)
        for claim in self._unsettled():
            self._add(claim, failed.stage, ruling, failed.reply)

    async def _transact(self, connection: SmtpConnection, batch: tuple[Claim, ...]) -> None:
        """Hold one transaction: MAIL, RCPT for each, DATA, and the dot."""
        if not await self._name_sender(connection, batch):
            return
        accepted = await self._name_recipients(connection, batch)
        if not accepted:
            return
        claims = replace(self._mail.claims, each=accepted)
        await self._reached(claims, Phase.RCPT_OK)
        await connection.data()
        await connection.send(self._data)
        lease_end = await self._reached(claims, Phase.DOT_PENDING)
        if time.monotonic() >= lease_end:
            # This process slept past its claim: another worker may be sending by now.
            raise ConversationFailed(Stage.DATA, "lease_ended")
        reply = await connection.dot()
        ruling = rule(Stage.DOT, reply, recipients=len(accepted))
        for claim in accepted:
            self._add(claim, Stage.DOT, ruling, reply)

    async def _name_sender(self, connection: SmtpConnection, batch: tuple[Claim, ...]) -> bool:
        """Say MAIL; False when everybody of the batch is settled by the answer."""
        limit = connection.size_limit
        if limit is not None and len(self._mail.raw) > limit:
            for claim in batch:
                self._add(claim, Stage.MAIL, rule_failure(Stage.MAIL, "message_too_large"))
            return False
        needs_utf8 = self._mail.is_international or not all(self._addresses[claim.token].isascii() for claim in batch)
        try:
            reply = await connection.mail(self._mail.sender, len(self._mail.raw), needs_utf8=needs_utf8)
        except InvalidArgument:
            raise ConversationFailed(Stage.MAIL, "address_invalid") from None
        if not reply.is_positive:
            for claim in batch:
                self._settle(claim, Stage.MAIL, reply)
        return reply.is_positive

    async def _name_recipients(self, connection: SmtpConnection, batch: tuple[Claim, ...]) -> tuple[Claim, ...]:
        """Say RCPT for each, settle who is refused, and return those who are not."""
        accepted: list[Claim] = []
        for claim in batch:
            try:
                reply = await connection.rcpt(self._addresses[claim.token])
            except InvalidArgument:
                self._add(claim, Stage.RCPT, rule_failure(Stage.RCPT, "address_invalid"))
                continue
            if reply.is_positive:
                accepted.append(claim)
            elif accepted and explain(Stage.RCPT, reply) == "too_many_recipients":
                self._manners.most_recipients = len(accepted)
                break  # they follow in the next transaction
            else:
                self._settle(claim, Stage.RCPT, reply)
        return tuple(accepted)

    def _unsettled(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in self._mail.claims.each if claim.token not in self._settled)

    def _settle(self, claim: Claim, stage: Stage, reply: Reply) -> None:
        self._add(claim, stage, rule(stage, reply), reply)

    def _add(self, claim: Claim, stage: Stage, ruling: Ruling, reply: Reply | None = None) -> None:
        self._settled[claim.token] = Outcome(
            claim=claim,
            verdict=ruling.verdict,
            stage=stage.value,
            reason=ruling.reason,
            code=_code(reply),
            enhanced=reply.enhanced if reply else None,
            reply=reply.text if reply else None,
            scope=ruling.scope,
            is_hard=ruling.hardness is Hardness.HARD,
        )


def _is_stale(failed: ConversationFailed) -> bool:
    """Whether a connection idled too long: its first command is answered with a goodbye, or not at all."""
    return failed.reply.is_closing if failed.reply else failed.reason == "connection_lost"


def _code(reply: Reply | None) -> int | None:
    return reply.code if reply else None
