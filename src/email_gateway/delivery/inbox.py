"""The `inbox` transport: mail is kept sealed and shown, and goes nowhere.

Some addresses answer as real servers do, so that a developer can watch it happen, at any domain and
with any `+label`: `bounce@` and `bounced@` are refused for good, `defer@` and `deferred@` for now
(and tried again on the usual schedule). Everybody else receives. That is for development: where
people expect their mail, the inbox plays nobody, and its one word is *kept*.
"""

import asyncio
import time
from dataclasses import replace
from uuid import UUID

from uuid_utils.compat import uuid7

from email_gateway.delivery.outgoing import LARGE_OCTETS, OutgoingMail, Reached
from email_gateway.delivery.replies import Stage, rule
from email_gateway.delivery.reply_parser import Reply
from email_gateway.errors import DatabaseUnavailable
from email_gateway.mail.deliveries import Claim, Outcome, Phase, Verdict
from email_gateway.store.database import Database
from email_gateway.store.inbox import InboxMail, add_inbox_mail
from email_gateway.vault.keyring import Keyring

FIELD = "inbox.raw"
NOT_SENT = "not_sent"  # the reason of a delivery that is kept
TAKEN = Reply(250, (b"2.0.0 kept in the development inbox",))
BOUNCED = Reply(550, (b"5.1.1 the development inbox bounces this address",))
DEFERRED = Reply(450, (b"4.2.1 the development inbox defers this address",))
ANSWERS = {"bounce": BOUNCED, "bounced": BOUNCED, "defer": DEFERRED, "deferred": DEFERRED}


class InboxTransport:
    """Keeps each message once, whatever the number of its recipients.

    With `plays_servers` it answers as servers do; without, no delivery of its own is called delivered.
    """

    def __init__(self, db: Database, keyring: Keyring, *, plays_servers: bool = True) -> None:
        self._db = db
        self._keyring = keyring
        self._plays_servers = plays_servers

    async def send(self, mail: OutgoingMail, reached: Reached) -> list[Outcome]:
        """Store the message; a database that fails while it does leaves the mail in doubt."""
        settled: dict[UUID, Outcome] = {}
        for claim, recipient in zip(mail.claims.each, mail.recipients, strict=True):
            answer = answer_for(recipient) if self._plays_servers else TAKEN
            if answer is not TAKEN:
                settled[claim.token] = _answered(claim, Stage.RCPT, answer)
        accepted = tuple(claim for claim in mail.claims.each if claim.token not in settled)
        if accepted:
            outcomes = await self._keep(mail, accepted, reached)
            settled.update({outcome.claim.token: outcome for outcome in outcomes})
        return [settled[claim.token] for claim in mail.claims.each]

    async def _keep(self, mail: OutgoingMail, accepted: tuple[Claim, ...], reached: Reached) -> list[Outcome]:
        kept = await self._seal(mail, accepted)
        await reached(mail.claims, Phase.COMPOSED)
        lease_end = await reached(replace(mail.claims, each=accepted), Phase.DOT_PENDING)
        if time.monotonic() >= lease_end:
            return [Outcome(claim, Verdict.HELD, Stage.DATA.value, "lease_ended") for claim in accepted]
        try:
            await add_inbox_mail(self._db, kept)
        except DatabaseUnavailable as error:
            return [Outcome(claim, Verdict.IN_DOUBT, Stage.DOT.value, error.code) for claim in accepted]
        if not self._plays_servers:
            return [Outcome(claim, Verdict.KEPT, Stage.DOT.value, NOT_SENT) for claim in accepted]
        return [_answered(claim, Stage.DOT, TAKEN) for claim in accepted]

    async def _seal(self, mail: OutgoingMail, accepted: tuple[Claim, ...]) -> InboxMail:
        keys = await self._keyring.tenant(mail.claims.tenant_id)
        inbox_id = uuid7()
        is_large = len(mail.raw) > LARGE_OCTETS
        return InboxMail(
            tenant_id=mail.claims.tenant_id,
            inbox_id=inbox_id,
            message_id=mail.claims.message_id,
            recipients=tuple(claim.recipient for claim in accepted),
            sealed_raw=await asyncio.to_thread(keys.seal, FIELD, inbox_id, mail.raw)
            if is_large
            else keys.seal(FIELD, inbox_id, mail.raw),
            size=len(mail.raw),
        )

    async def close(self) -> None:
        """Close nothing: the database belongs to whoever opened it."""


def answer_for(recipient: str) -> Reply:
    """Return what this inbox says to an address: by its local part up to a `+`, at any domain."""
    local = recipient.rpartition("@")[0].partition("+")[0].lower()
    return ANSWERS.get(local, TAKEN)


def _answered(claim: Claim, stage: Stage, reply: Reply) -> Outcome:
    ruling = rule(stage, reply)
    return Outcome(claim, ruling.verdict, stage.value, ruling.reason, reply.code, reply.enhanced, reply.text)
