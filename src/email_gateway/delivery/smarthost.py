"""The `smtp` transport: mail leaves through a smarthost, over connections that are kept."""

import asyncio
import ssl
import time
from collections.abc import Callable

from email_gateway.delivery.conversation import Conversation, Manners
from email_gateway.delivery.data import encode_data
from email_gateway.delivery.opening import Terms, open_connection
from email_gateway.delivery.outgoing import LARGE_OCTETS, OutgoingMail, Reached
from email_gateway.delivery.pool import Pool, PoolLimits
from email_gateway.delivery.replies import Stage
from email_gateway.delivery.smtp import ConversationFailed, OutOfStep
from email_gateway.delivery.target import SmtpTarget, Timeouts
from email_gateway.mail.deliveries import Outcome, Phase
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
        replaced once by a new one; so is one whose server did not bear a group of commands, and then
        they are said in turn.
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
            log.warning(
                "smtp_failed", stage=failed.stage, reason=failed.reason, smtp_code=failed.reply and failed.reply.code
            )
            conversation.settle_rest(failed)
        return conversation.outcomes

    async def close(self) -> None:
        """Say QUIT on every idle connection."""
        await self._pool.close()

    async def _converse(self, conversation: Conversation, until: float, *, fresh: bool = False) -> bool:
        """Hold the conversation; False when it is worth another connection, since no message left on this one."""
        async with self._pool.connection(until, fresh=fresh) as connection:
            was_kept = connection.messages > 0
            try:
                await conversation.run(connection)
            except ConversationFailed as failed:
                is_stale = was_kept and failed.stage is Stage.MAIL and _is_stale(failed)
                # Who waited in vain once has waited long enough.
                is_out_of_step = isinstance(failed, OutOfStep) and failed.reason != "timeout"
                if not fresh and (is_stale or is_out_of_step):
                    connection.abort()
                    return False
                raise
        return True


def _is_stale(failed: ConversationFailed) -> bool:
    """Whether a connection idled too long: its first command is answered with a goodbye, or not at all."""
    return failed.reply.is_closing if failed.reply else failed.reason == "connection_lost"
