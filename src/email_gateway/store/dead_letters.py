"""Dead letters: deliveries that wait for an operator to retry or discard them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.queries import load

SQL = load("dead_letters")

BULK_LIMIT = 1000
# Who asked for a retry, as the event says it.
OPERATOR, CALLER = "operator", "caller"
# A retried delivery may be tried for this long again, even when its message had expired.
RETRY_LIFETIME = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DeliveryId:
    """A delivery's name outside: `<message_id>-<recipient>`."""

    message_id: UUID
    recipient: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a delivery id; raises NotFound, since what is not an id names nothing."""
        head, _, tail = text.rpartition("-")
        try:
            message_id = UUID(head)
        except ValueError:
            raise NotFound("no such dead letter") from None
        if str(message_id) != head or not (tail.isascii() and tail.isdigit() and len(tail) <= len("49")):
            raise NotFound("no such dead letter")
        return cls(message_id, int(tail))

    def __str__(self) -> str:
        return f"{self.message_id}-{self.recipient}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead delivery as an operator sees it: nothing personal."""

    tenant_id: UUID
    tenant: str
    message_id: UUID
    recipient: int
    domain: str
    attempts: int
    reason: str | None
    code: int | None
    enhanced: str | None
    created_at: datetime
    dead_at: datetime

    @property
    def delivery_id(self) -> DeliveryId:
        return DeliveryId(self.message_id, self.recipient)


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters: every field that is given must match."""

    tenant_id: UUID | None = None
    reason: str | None = None
    domain: str | None = None
    dead_before: datetime | None = None


EVERY = DeadFilter()


@dataclass(frozen=True, slots=True)
class DeadStats:
    """How many dead letters match, and the largest groups of them by reason and by domain, as of `at`."""

    at: datetime
    total: int
    oldest_at: datetime | None
    newest_at: datetime | None
    by_reason: tuple[tuple[str | None, int], ...]
    by_domain: tuple[tuple[str, int], ...]


async def list_dead_letters(
    db: Queries, chosen: DeadFilter, *, limit: int = 20, after: DeliveryId | None = None
) -> tuple[list[DeadLetter], bool]:
    """Return one page, the newest messages first, and whether there are more."""
    cursor = (after.message_id, after.recipient) if after else (None, None)
    rows = await db.fetch(SQL.list_dead, *_arguments(chosen), *cursor, limit + 1)
    return [DeadLetter(*row) for row in rows[:limit]], len(rows) > limit


async def get_dead_letter(db: Queries, delivery_id: DeliveryId) -> DeadLetter:
    """Return one dead letter; raises NotFound when that delivery is not dead (any more)."""
    row = await db.fetch_one(SQL.find_dead, delivery_id.message_id, delivery_id.recipient)
    if row is None:
        raise NotFound("no such dead letter")
    return DeadLetter(*row)


async def count_dead_letters(db: Queries, chosen: DeadFilter = EVERY, *, groups: int = 20) -> DeadStats:
    """Count the dead letters that match, in all and by reason and domain."""
    rows = await db.fetch(SQL.count_dead, *_arguments(chosen))
    total = rows[0]
    return DeadStats(
        total["at"],
        total["deliveries"],
        total["oldest_at"],
        total["newest_at"],
        by_reason=tuple((row["reason"], row["deliveries"]) for row in rows[1:] if row["domain"] is None)[:groups],
        by_domain=tuple((row["domain"], row["deliveries"]) for row in rows[1:] if row["domain"] is not None)[:groups],
    )


async def retry_dead_letter(db: Database, delivery_id: DeliveryId, *, actor: str, reason: str | None = None) -> None:
    """Queue one dead letter for an attempt now; raises NotFound when it is not dead."""
    await _change_one(db, SQL.retry_dead, delivery_id, (RETRY_LIFETIME, OPERATOR), ("dlq.retried", actor, reason))


async def discard_dead_letter(db: Database, delivery_id: DeliveryId, *, actor: str, reason: str | None = None) -> None:
    """Give one dead letter up for good: it ends as cancelled; raises NotFound when it is not dead."""
    await _change_one(db, SQL.discard_dead, delivery_id, (), ("dlq.discarded", actor, reason))


async def retry_dead_letters(db: Database, chosen: DeadFilter, *, actor: str, reason: str | None = None) -> int:
    """Queue up to 1,000 dead letters that match and return how many; repeat until it is 0."""
    return await _change_many(db, SQL.retry_dead, chosen, (RETRY_LIFETIME, OPERATOR), ("dlq.retried", actor, reason))


async def retry_message(db: Database, tenant_id: UUID, message_id: UUID, *, actor: str) -> int:
    """Queue every dead delivery of a tenant's message for an attempt now and return how many there were.

    Those that were held in doubt are among them: whoever asks accepts that such a mail may arrive twice. Raises
    NotFound, also for another tenant's message.
    """
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.find_message, tenant_id, message_id) is None:
            raise NotFound("no such email")
        arguments = (*_arguments(DeadFilter(tenant_id=tenant_id)), message_id, None, BULK_LIMIT, RETRY_LIFETIME, CALLER)
        changed = _count(await transaction.fetch(SQL.retry_dead, *arguments))
        if changed:
            await add_audit(
                transaction, actor=actor, action="emails.retried", tenant_id=tenant_id, subject=str(message_id)
            )
        return changed


async def discard_dead_letters(db: Database, chosen: DeadFilter, *, actor: str, reason: str | None = None) -> int:
    """Give up to 1,000 dead letters that match up and return how many; repeat until it is 0."""
    return await _change_many(db, SQL.discard_dead, chosen, (), ("dlq.discarded", actor, reason))


async def _change_one(
    db: Database, sql: str, delivery_id: DeliveryId, rest: tuple[object, ...], act: tuple[str, str, str | None]
) -> None:
    action, actor, reason = act
    async with db.transaction() as transaction:
        found = await get_dead_letter(transaction, delivery_id)
        arguments = (*_arguments(DeadFilter(tenant_id=found.tenant_id)), delivery_id.message_id, delivery_id.recipient)
        if _count(await transaction.fetch(sql, *arguments, 1, *rest)) == 0:
            raise NotFound("no such dead letter")  # another operator was faster
        await add_audit(
            transaction,
            actor=actor,
            action=action,
            tenant_id=found.tenant_id,
            subject=str(delivery_id),
            reason=reason,
        )


async def _change_many(
    db: Database, sql: str, chosen: DeadFilter, rest: tuple[object, ...], act: tuple[str, str, str | None]
) -> int:
    action, actor, reason = act
    async with db.transaction() as transaction:
        changed = _count(await transaction.fetch(sql, *_arguments(chosen), None, None, BULK_LIMIT, *rest))
        await add_audit(
            transaction,
            actor=actor,
            action=action,
            tenant_id=chosen.tenant_id,
            subject=f"{changed} deliveries by filter",
            reason=reason,
        )
        return changed


def _arguments(chosen: DeadFilter) -> tuple[object, ...]:
    return chosen.tenant_id, chosen.reason, chosen.domain, chosen.dead_before


def _count(rows: list[Record]) -> int:
    changed: int = rows[0]["changed"]
    return changed
