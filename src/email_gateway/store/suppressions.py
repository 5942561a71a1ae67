"""Addresses that get no mail, found by the blind index of the address and kept under seal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.store.database import Queries, Record
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("suppressions")

BATCH = 5_000

IndexEntry = tuple[UUID, bytes, bytes]  # suppression id, index key id, blind value


class Reason(StrEnum):
    """Why an address gets no mail."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """A suppression ready to be written; `blind` holds (index key id, value), that of the searched key first."""

    suppression_id: UUID
    sealed_entry: bytes
    reason: Reason
    source_id: UUID | None
    expires_at: datetime | None
    blind: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class StoredSuppression:
    """A suppression in force; `source_id` is the message that it came from."""

    suppression_id: UUID
    sealed_entry: bytes
    reason: Reason
    source_id: UUID | None
    created_at: datetime
    expires_at: datetime | None


async def add_suppressions(transaction: Queries, tenant_id: UUID, given: Sequence[NewSuppression]) -> list[UUID]:
    """Suppress each address, once each; return the id of each suppression, in order.

    An address that is suppressed already keeps its suppression, for the longer of both times. The
    caller holds `lock_index_keys`, under which nobody else adds.
    """
    if not given:
        return []
    searched = given[0].blind[0][0]
    values = [one.blind[0][1] for one in given]
    await transaction.execute(SQL.forget_expired, tenant_id, searched, values)
    rows = await transaction.fetch(
        SQL.extend_suppressions, tenant_id, searched, values, [one.expires_at for one in given]
    )
    found: dict[bytes, UUID] = {row["value"]: row["suppression_id"] for row in rows}
    fresh = [one for one in given if one.blind[0][1] not in found]
    await transaction.execute(
        SQL.add_suppressions,
        tenant_id,
        [one.suppression_id for one in fresh],
        [one.sealed_entry for one in fresh],
        [one.reason for one in fresh],
        [one.source_id for one in fresh],
        [one.expires_at for one in fresh],
    )
    entries = [(one.suppression_id, key_id, value) for one in fresh for key_id, value in one.blind]
    await add_suppression_indexes(transaction, tenant_id, entries)
    return [found.get(one.blind[0][1], one.suppression_id) for one in given]


async def remove_suppressions(db: Queries, tenant_id: UUID, suppression_ids: Sequence[UUID]) -> set[UUID]:
    """End these suppressions; return those that were in force."""
    rows = await db.fetch(SQL.remove_suppressions, tenant_id, suppression_ids)
    return {row["suppression_id"] for row in rows if row["is_in_force"]}


async def find_by_values(
    db: Queries, tenant_id: UUID, index_key_id: bytes, values: Sequence[bytes]
) -> dict[bytes, UUID]:
    """Return the suppression in force of each blind value that has one."""
    rows = await db.fetch(SQL.find_by_values, tenant_id, index_key_id, values)
    return {row["value"]: row["suppression_id"] for row in rows}


async def get_suppression(db: Queries, tenant_id: UUID, suppression_id: UUID) -> StoredSuppression:
    """Return one suppression in force; raises NotFound."""
    row = await db.fetch_one(SQL.find_suppression, tenant_id, suppression_id)
    if row is None:
        raise NotFound("no such suppression")
    return _stored(row)


async def list_suppressions(
    db: Queries, tenant_id: UUID, page: Page, reasons: Sequence[Reason] = tuple(Reason)
) -> tuple[list[StoredSuppression], bool]:
    """Return a page of the suppressions in force, newest first, and whether there are more that way."""
    statement, cursor = (SQL.list_after, page.after) if page.before is None else (SQL.list_before, page.before)
    rows = await db.fetch(statement, tenant_id, cursor, list(reasons), page.limit + 1)
    kept, has_more = page.cut(rows)
    return [_stored(row) for row in kept], has_more


async def find_reasons(db: Queries, recipients: Sequence[tuple[UUID, bytes, bytes]]) -> list[Reason | None]:
    """Return for each (tenant id, index key id, blind value) why it gets no mail, or None."""
    rows = await db.fetch(SQL.find_reasons, *map(list, zip(*recipients, strict=True)))
    return [None if row["reason"] is None else Reason(row["reason"]) for row in rows]


async def add_suppression_indexes(db: Queries, tenant_id: UUID, entries: Sequence[IndexEntry]) -> int:
    """Add the entries that are not there yet, and return their number."""
    columns = [list(column) for column in zip(*entries, strict=True)] or [[], [], []]
    return int((await db.execute(SQL.add_suppression_indexes, tenant_id, *columns)).rpartition(" ")[2])


async def count_suppression_indexes(db: Queries, tenant_id: UUID, *index_key_ids: bytes) -> tuple[int, ...]:
    """Return how many entries each of these index keys has, all of one moment."""
    found = await db.fetch(SQL.count_suppression_indexes, tenant_id, list(index_key_ids))
    by_key = {row["index_key_id"]: row["count"] for row in found}
    return tuple(by_key.get(key_id, 0) for key_id in index_key_ids)


async def delete_suppression_indexes(db: Queries, tenant_id: UUID, index_key_id: bytes) -> int:
    """Delete some thousands of the entries under an index key; return how many, 0 at the end."""
    deleted = await db.execute(SQL.delete_suppression_indexes, tenant_id, index_key_id, BATCH)
    return int(deleted.rpartition(" ")[2])


async def prune_suppressions(db: Queries) -> None:
    """Forget every suppression that has expired; workers may do it at the same time."""
    while await db.execute(SQL.prune_suppressions, BATCH) == f"DELETE {BATCH}":
        pass


def _stored(row: Record) -> StoredSuppression:
    suppression_id, sealed_entry, reason, *rest = row
    return StoredSuppression(suppression_id, sealed_entry, Reason(reason), *rest)
