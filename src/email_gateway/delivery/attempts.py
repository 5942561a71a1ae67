"""One attempt: the sealed message opened, composed and handed to a transport; what came of it returned."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import msgspec

from email_gateway.delivery.dkim import Signer, sign
from email_gateway.delivery.outgoing import LARGE_OCTETS, OutgoingMail, Reached, Transport
from email_gateway.delivery.signing import SenderKeys
from email_gateway.delivery.simulator import Simulator
from email_gateway.errors import DatabaseUnavailable, KeyUnavailable, NotFound, OperatorError, Tampered, TryLater
from email_gateway.mail.compose import compose
from email_gateway.mail.content import Attachment, Content
from email_gateway.mail.deliveries import Claims, Outcome, Scope, Verdict
from email_gateway.mail.encoding import InvalidValue
from email_gateway.observe import get_logger
from email_gateway.store.database import Database
from email_gateway.store.messages import get_sealed_content, list_sealed_attachments
from email_gateway.store.suppressions import Reason
from email_gateway.suppressions import Entry, Suppressions
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
        self._suppressions = Suppressions(db, keyring)

    async def attempt(self, claims: Claims, reached: Reached) -> list[Outcome]:
        """Try once to deliver one message to its claimed recipients; return an outcome for each.

        Raises ClaimLost when `reached` does: then nothing was sent.
        """
        try:
            mail, suppressed = await self._prepare(claims)
            if mail is None:
                return suppressed
            transport = self._simulator if claims.is_simulated else self._transport
            return suppressed + await transport.send(mail, reached)
        except Unreadable as unreadable:
            log.error("message_unreadable", message_id=str(claims.message_id), reason=unreadable.reason)
            return _settle(claims, Verdict.UNREADABLE, unreadable.reason)
        except (KeyUnavailable, DatabaseUnavailable) as error:
            # Before the dot, or a transport would have answered: nothing was sent, and nobody was asked.
            log.warning("attempt_deferred", message_id=str(claims.message_id), error=error.code)
            return _settle(claims, Verdict.HELD, error.code)

    async def suppress(self, claims: Claims, outcomes: Sequence[Outcome]) -> None:
        """Suppress the addresses of which a server said that they are dead; what fails is left to the next bounce.

        For when the outcomes have been recorded: nothing that was heard may be lost over this.
        """
        dead = [outcome.claim.recipient for outcome in outcomes if outcome.is_hard]
        if not dead:
            return
        try:
            content, _ = await self._read(replace(claims, attachment_count=0))
            entries = [Entry(content.envelope[each], Reason.BOUNCE, source_id=claims.message_id) for each in dead]
            await self._suppressions.add(claims.tenant_id, entries)
        except (TryLater, OperatorError, NotFound) as error:
            log.warning("not_suppressed", message_id=str(claims.message_id), error=error)

    async def _prepare(self, claims: Claims) -> tuple[OutgoingMail | None, list[Outcome]]:
        """Compose the mail for those who may get it, None for nobody, and settle the others."""
        try:
            content, attachments = await self._read(claims)
            recipients = [content.envelope[claim.recipient] for claim in claims.each]
            # Once more after the accept, unless that was just now: an address may have been suppressed since.
            reasons = (
                [None] * len(recipients)
                if claims.is_fresh
                else await self._suppressions.find_reasons(claims.tenant_id, recipients)
            )
            suppressed = [
                Outcome(claim, Verdict.SUPPRESSED, STAGE, reason)
                for claim, reason in zip(claims.each, reasons, strict=True)
                if reason is not None
            ]
            if len(suppressed) == len(claims):
                return None, suppressed
            if suppressed:
                kept = [each for each, reason in enumerate(reasons) if reason is None]
                claims = replace(claims, each=tuple(claims.each[each] for each in kept))
                recipients = [recipients[each] for each in kept]
            signers = await self._sender_keys.list_signers(claims.tenant_id, content.sender.domain)
            raw = await _compose(content, attachments, claims, signers)
        except Tampered:
            raise Unreadable("tampered") from None
        except NotFound:
            raise Unreadable("content_missing") from None
        except (msgspec.MsgspecError, UnicodeError, IndexError, InvalidValue):
            # What they say quotes the content.
            raise Unreadable("malformed") from None
        return OutgoingMail(claims, content.sender.email, tuple(recipients), raw), suppressed

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
