"""Root keys, data keys and wraps as they are kept: names, states and sealed bytes, never a key in clear."""

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A data key's name, and its wrap under one of the roots that were asked for, or None.

    `purpose` is 1 for a key that seals fields and 2 for one that makes blind indexes; `state` is
    active, decrypt_only or destroyed.
    """

    key_id: bytes
    tenant_id: UUID
    purpose: int
    state: str
    blob: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """A process of the fleet: which roots it held when it was last seen."""

    instance: UUID
    roots_held: tuple[bytes, ...]
    release: str
    seen_at: datetime


async def lock_roots(transaction: Queries) -> None:
    """Hold the roots alone until the transaction ends."""
    await transaction.execute(SQL.lock_roots)


async def lock_roots_shared(transaction: Queries) -> None:
    """Keep the roots as they are until the transaction ends, together with others who do."""
    await transaction.execute(SQL.lock_roots_shared)


async def list_roots(db: Queries) -> list[StoredRoot]:
    """Return every root, oldest first."""
    return [StoredRoot(*row) for row in await db.fetch(SQL.list_roots)]


async def holds_sealed_values(db: Queries) -> bool:
    """Return whether anything in the database was sealed, or made under a data key."""
    row = await db.fetch_one(SQL.holds_sealed_values)
    return bool(row and row["found"])


async def add_active_root(
    transaction: Queries, root_id: bytes, key_version_id: str, salt_version_id: str, canary: bytes
) -> None:
    """Insert the first root, active at once; refused by the database when another is active."""
    await transaction.execute(SQL.add_active_root, root_id, key_version_id, salt_version_id, canary)


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


async def add_key(transaction: Queries, key: StoredKey, root_id: bytes) -> None:
    """Insert an active key and its wrap, unless the tenant has an active key of that purpose."""
    await transaction.execute(SQL.add_key, key.key_id, key.tenant_id, key.purpose, root_id, key.blob)


async def record_instance(db: Queries, instance: UUID, roots_held: Sequence[bytes], release: str) -> None:
    """Write down that this process lives and which roots it holds."""
    await db.execute(SQL.record_instance, instance, roots_held, release)


async def count_keys(db: Queries) -> dict[tuple[int, str], int]:
    """Return the number of keys by (purpose, state)."""
    return {(row["purpose"], row["state"]): row["count"] for row in await db.fetch(SQL.count_keys)}


async def count_wraps(db: Queries) -> dict[bytes, int]:
    """Return how many keys that are not destroyed have a wrap, by the id of the root."""
    return {row["parent_id"]: row["count"] for row in await db.fetch(SQL.count_wraps)}


async def list_instances(db: Queries, seen_within: timedelta) -> list[StoredInstance]:
    """Return the processes seen lately, the latest first."""
    return [
        StoredInstance(instance, tuple(roots_held), release, seen_at)
        for instance, roots_held, release, seen_at in await db.fetch(SQL.list_instances, seen_within)
    ]
