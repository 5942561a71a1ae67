"""One attempt: the sealed message opened, composed and handed to a transport; what came of it returned."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from email_gateway.delivery.dkim import Signer, sign
from email_gateway.delivery.outgoing import LARGE_OCTETS, OutgoingMail, Reached, Transport
from email_gateway.delivery.signing import SenderKeys
from email_gateway.delivery.simulator import Simulator
from email_gateway.errors import DatabaseUnavailable, KeyUnavailable, NotFound, Tampered
from email_gateway.mail.compose import compose
from email_gateway.mail.content import Attachment, Content
from email_gateway.mail.deliveries import Claims, Outcome, Scope, Verdict
from email_gateway.mail.encoding import InvalidValue
from email_gateway.observe import get_logger
from email_gateway.store.database import Database
from email_gateway.store.messages import get_sealed_content, list_sealed_attachments
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

STAGE = "content"  # where an attempt stands before it meets a server
AFTER_OUTAGE = timedelta(seconds=10)

_CONTENT = msgspec.msgpack.Decoder(Content)
_ATTACHMENT = msgspec.msgpack.Decoder(Attachment)


class Unreadable(Exception):
    """What is stored cannot become a mail; `reason` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Delivery:
    """Attempts deliveries over one transport, but for those to the simulator.

    It writes no state: the outcomes say what to write.
    """

    def __init__(self, transport: Transport, keyring: Keyring, db: Database) -> None:
        self._transport = transport
        self._simulator = Simulator()
        self._keyring = keyring
        self._db = db
        self._sender_keys = SenderKeys(db, keyring)

    async def attempt(self, claims: Claims, reached: Reached) -> list[Outcome]:
        """Try once to deliver one message to its claimed recipients; return an outcome for each.

        Raises ClaimLost when `reached` does: then nothing was sent.
        """
        try:
            mail = await self._prepare(claims)
            return await (self._simulator if claims.is_simulated else self._transport).send(mail, reached)
        except Unreadable as unreadable:
            log.error("message_unreadable", message_id=str(claims.message_id), reason=unreadable.reason)
            return _settle(claims, Verdict.UNREADABLE, unreadable.reason)
        except (KeyUnavailable, DatabaseUnavailable) as error:
            # Before the dot, or a transport would have answered: nothing was sent, and nobody was asked.
            log.warning("attempt_deferred", message_id=str(claims.message_id), error=error.code)
            return _settle(claims, Verdict.HELD, error.code)

    async def _prepare(self, claims: Claims) -> OutgoingMail:
        try:
            content, attachments = await self._read(claims)
            recipients = tuple(content.envelope[claim.recipient] for claim in claims.each)
            signers = await self._sender_keys.list_signers(claims.tenant_id, content.sender.domain)
            raw = await _compose(content, attachments, claims, signers)
        except Tampered:
            raise Unreadable("tampered") from None
        except NotFound:
            raise Unreadable("content_missing") from None
        except (msgspec.MsgspecError, UnicodeError, IndexError, InvalidValue):
            # What they say quotes the content.
            raise Unreadable("malformed") from None
        return OutgoingMail(claims, content.sender.email, recipients, raw)

    async def _read(self, claims: Claims) -> tuple[Content, list[Attachment]]:
        sealed = claims.sealed
        if sealed is None:
            sealed = await get_sealed_content(self._db, claims.tenant_id, claims.message_id)
        content = _CONTENT.decode(
            await self._keyring.open(claims.tenant_id, "message.content", claims.message_id, sealed)
        )
        attachments = []
        if claims.attachment_count:
            for attachment_id, sealed in await list_sealed_attachments(self._db, claims.tenant_id, claims.message_id):
                opened = await self._keyring.open(claims.tenant_id, "attachment.content", attachment_id, sealed)
                attachments.append(_ATTACHMENT.decode(opened))
        if len(attachments) != claims.attachment_count:
            raise Unreadable("attachment_missing")
        return content, attachments


async def _compose(content: Content, attachments: list[Attachment], claims: Claims, signers: Sequence[Signer]) -> bytes:
    """Write the message, and sign it where there is a key.

    It is the same at each attempt but for the signature's time. Signing is left to a thread: OpenSSL lets
    go of the interpreter, and a quarter of a millisecond for each mail would be most of what the loop does.
    """
    size = sum(len(a.data) for a in attachments) + len(content.html or "") + len(content.text or "")

    def write() -> bytes:
        raw = compose(content, attachments, message_id=claims.message_id, created_at=claims.created_at)
        return sign(raw, signers, int(time.time())) if signers else raw

    return await asyncio.to_thread(write) if signers or size > LARGE_OCTETS else write()


def _settle(claims: Claims, verdict: Verdict, reason: str) -> list[Outcome]:
    wait = AFTER_OUTAGE if verdict is Verdict.HELD else None
    return [Outcome(claim, verdict, STAGE, reason, scope=Scope.OURS, wait=wait) for claim in claims.each]
