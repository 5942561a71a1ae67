"""The blind index as a whole: entries copied to another key, counted, and deleted with their key."""

from collections.abc import Sequence
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("blind_index")

FIELDS = ("address", "external_id", "tax_id")
DELETE_BATCH = 5_000

Entry = tuple[UUID, bytes, str, bytes]  # message id, index key id, field, blind value


async def add_blind_indexes(db: Queries, tenant_id: UUID, entries: Sequence[Entry]) -> int:
    """Add the entries that are not there yet, and return their number."""
    columns = [list(column) for column in zip(*entries, strict=True)] or [[], [], [], []]
    return int((await db.execute(SQL.add_blind_indexes, tenant_id, *columns)).rpartition(" ")[2])


async def count_blind_indexes(db: Queries, tenant_id: UUID, *index_key_ids: bytes) -> dict[str, tuple[int, ...]]:
    """Return by field how many entries each of these index keys has; those of one field are of one moment."""
    counts = {}
    for field in FIELDS:
        found = await db.fetch(SQL.count_blind_indexes, tenant_id, field, list(index_key_ids))
        by_key = {row["index_key_id"]: row["count"] for row in found}
        counts[field] = tuple(by_key.get(key_id, 0) for key_id in index_key_ids)
    return counts


async def delete_blind_indexes(db: Queries, tenant_id: UUID, index_key_id: bytes, field: str) -> int:
    """Delete some thousands of the entries of a field under an index key; return how many, 0 at the end."""
    deleted = await db.execute(SQL.delete_blind_indexes, tenant_id, index_key_id, field, DELETE_BATCH)
    return int(deleted.rpartition(" ")[2])
