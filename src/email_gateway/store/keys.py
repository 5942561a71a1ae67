"""Root keys, data keys and wraps as they are kept: names, states and sealed bytes, never a key in clear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("keys")


@dataclass(frozen=True, slots=True)
class StoredRoot:
    """A root key the database has known, and the versions of the two secrets it came from.

    `state` is pending, active, retiring or retired; at most one root is active.
    """

    root_id: bytes
    key_version_id: str
    salt_version_id: str
    state: str
    canary: bytes = field(repr=False)
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None
    retiring_at: datetime | None
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A data key's name, and its wrap under one of the roots that were asked for, or None.

    `purpose` is 1 for a key that seals fields and 2 for one that makes blind indexes; `state` is
    incoming (of an index key alone), active, decrypt_only or destroyed.
    """

    key_id: bytes
    tenant_id: UUID
    purpose: int
    state: str
    blob: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PagedKey:
    """A live key on a walk over all of them; `is_wrapped` under the root that the walk is about."""

    key: StoredKey
    is_wrapped: bool


async def lock_adoption(transaction: Queries) -> None:
    """Be the only one to change roots until the transaction ends; keys are made meanwhile."""
    await transaction.execute(SQL.lock_adoption)


async def lock_roots(transaction: Queries) -> None:
    """Hold the roots alone until the transaction ends."""
    await transaction.execute(SQL.lock_roots)


async def lock_roots_shared(transaction: Queries) -> None:
    """Keep the roots as they are until the transaction ends, together with others who do."""
    await transaction.execute(SQL.lock_roots_shared)


async def only_look(transaction: Queries) -> None:
    """Let a transaction that has just begun see one moment and write nothing: PostgreSQL itself refuses it."""
    await transaction.execute(SQL.only_look)


async def list_roots(db: Queries) -> list[StoredRoot]:
    """Return every root, oldest first."""
    return [StoredRoot(*row) for row in await db.fetch(SQL.list_roots)]


async def holds_sealed_values(db: Queries) -> bool:
    """Return whether anything in the database was sealed, or made under a data key."""
    row = await db.fetch_one(SQL.holds_sealed_values)
    return bool(row and row["found"])


async def list_roots_of_key(db: Queries, key_id: bytes) -> list[StoredRoot]:
    """Return the roots that have a wrap of this key, the active one first."""
    return [StoredRoot(*row) for row in await db.fetch(SQL.list_roots_of_key, key_id)]


async def put_root(
    transaction: Queries, root_id: bytes, key_version_id: str, salt_version_id: str, canary: bytes
) -> None:
    """Write a root down, or the VersionIds of one that is known; `activate_root` or `stage_root` follows."""
    await transaction.execute(SQL.put_root, root_id, key_version_id, salt_version_id, canary)


async def activate_root(transaction: Queries, root_id: bytes) -> None:
    """Make a root the active one; the one before begins to retire."""
    await transaction.execute(SQL.demote, root_id, "active")
    await transaction.execute(SQL.make_active, root_id)


async def stage_root(transaction: Queries, root_id: bytes) -> None:
    """Make a root the pending one, unless it is active; a pending one before begins to retire."""
    await transaction.execute(SQL.demote, root_id, "pending")
    await transaction.execute(SQL.make_pending, root_id)


async def is_another_pending(transaction: Queries, root_id: bytes, within: timedelta) -> bool:
    """Tell whether another root was staged within this time and waits to be promoted."""
    row = await transaction.fetch_one(SQL.is_pending_lately, root_id, within)
    return bool(row and row["found"])


async def note_verified(db: Queries, root_id: bytes) -> None:
    """Write down that every live data key has just been opened under this root."""
    await db.execute(SQL.note_verified, root_id)


async def retire_root(transaction: Queries, root_id: bytes) -> int:
    """Delete a retiring root's wraps and return their number; refused while any key needs them."""
    row = await transaction.fetch_one(SQL.retire_root, root_id)
    assert row is not None  # a function always answers
    deleted: int = row["deleted"]
    return deleted


async def page_keys(
    db: Queries, root_id: bytes, root_ids: Sequence[bytes], after: bytes, limit: int, *, only_unwrapped: bool = False
) -> list[PagedKey]:
    """Return the next live keys after an id, in its order, each with a wrap under one of `root_ids`.

    The wrap under `root_id` goes before another; `only_unwrapped` leaves out keys that have it.
    """
    sql = SQL.page_unwrapped_keys if only_unwrapped else SQL.page_keys
    rows = await db.fetch(sql, root_id, list(root_ids), after, limit)
    return [PagedKey(StoredKey(*row[:5]), row[5]) for row in rows]


async def add_wraps(
    transaction: Queries, root_id: bytes, key_ids: Sequence[bytes], blobs: Sequence[bytes]
) -> list[tuple[bytes, bytes]]:
    """Add wraps under a root, and return (key_id, wrap) as stored of those that were not there."""
    return [(row[0], row[1]) for row in await transaction.fetch(SQL.add_wraps, root_id, list(key_ids), list(blobs))]


async def count_live_keys(db: Queries) -> int:
    """Return how many data keys are not destroyed."""
    row = await db.fetch_one(SQL.count_live_keys)
    return row["count"] if row else 0


async def update_root_versions(db: Queries, root_id: bytes, key_version_id: str, salt_version_id: str) -> None:
    """Remember the VersionIds by which this root's secrets can be fetched now."""
    await db.execute(SQL.update_root_versions, root_id, key_version_id, salt_version_id)


async def sample_keys(db: Queries, root_id: bytes, start: bytes, limit: int) -> list[StoredKey]:
    """Return up to `limit` keys that are not destroyed, from the id `start` on and around."""
    return [StoredKey(*row) for row in await db.fetch(SQL.sample_keys, root_id, start, limit)]


async def list_active_keys(db: Queries, tenant_id: UUID, root_ids: Sequence[bytes]) -> list[StoredKey]:
    """Return the tenant's active keys: none, or one of each purpose."""
    return [StoredKey(*row) for row in await db.fetch(SQL.list_active_keys, tenant_id, root_ids)]


async def find_key(db: Queries, key_id: bytes, root_ids: Sequence[bytes]) -> StoredKey | None:
    """Return a key by its id, in whatever state, or None."""
    row = await db.fetch_one(SQL.find_key, key_id, root_ids)
    return StoredKey(*row) if row else None


async def add_key(transaction: Queries, key: StoredKey, wraps: Mapping[bytes, bytes]) -> None:
    """Insert a key and its wraps by root; an active one only if the tenant has no active key of that purpose."""
    await transaction.execute(
        SQL.add_key, key.key_id, key.tenant_id, key.purpose, list(wraps), list(wraps.values()), key.state
    )


async def count_keys(db: Queries) -> dict[tuple[int, str], int]:
    """Return the number of keys by (purpose, state)."""
    return {(row["purpose"], row["state"]): row["count"] for row in await db.fetch(SQL.count_keys)}


async def count_wraps(db: Queries) -> dict[bytes, int]:
    """Return how many keys that are not destroyed have a wrap, by the id of the root."""
    return {row["parent_id"]: row["count"] for row in await db.fetch(SQL.count_wraps)}
