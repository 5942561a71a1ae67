"""A tenant's data keys as they come into use and go out of it; `keys` holds roots, wraps and single keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.keys import StoredKey
from email_gateway.store.queries import load

SQL = load("data_keys")


@dataclass(frozen=True, slots=True)
class StoredIndexKey:
    """An index key of a tenant; `state` is incoming, active, decrypt_only or destroyed.

    An incoming one is written and not read yet, a decrypt_only one written and no longer read.
    `age` counts from when it began to be read, by the database's clock.
    """

    key_id: bytes
    state: str
    created_at: datetime
    activated_at: datetime | None
    age: timedelta


@dataclass(frozen=True, slots=True)
class IndexRotationRow:
    """One of the two index keys of a tenant whose index is being moved; `moved` messages were copied to it."""

    tenant: str
    tenant_id: UUID
    key_id: bytes
    state: str
    created_at: datetime
    activated_at: datetime | None
    moved: int
    is_copied: bool


async def list_keys_in_use(db: Queries, tenant_id: UUID, root_ids: Sequence[bytes]) -> list[StoredKey]:
    """Return the keys under which the tenant's values are written: one that seals, one or two for the index."""
    return [StoredKey(*row) for row in await db.fetch(SQL.list_keys_in_use, tenant_id, root_ids)]


async def list_changed_keys(
    db: Queries, held: Mapping[UUID, bytes], root_ids: Sequence[bytes]
) -> dict[UUID, list[StoredKey]]:
    """Return the keys in use of each tenant for whom they are not those that `held` joins into one value."""
    changed: dict[UUID, list[StoredKey]] = {}
    for row in await db.fetch(SQL.list_changed_keys, list(held), list(held.values()), root_ids):
        changed.setdefault(row["tenant_id"], []).append(StoredKey(*row))
    return changed


async def demote_field_key(transaction: Queries, tenant_id: UUID, older_than: timedelta) -> bool:
    """Take the active field key out of use when it is at least this old; tell whether it was."""
    return await transaction.execute(SQL.demote_field_key, tenant_id, older_than) == "UPDATE 1"


async def list_old_field_keys(db: Queries, older_than: timedelta, limit: int) -> list[UUID]:
    """Return up to `limit` tenants whose active field key is at least this old."""
    return [row["tenant_id"] for row in await db.fetch(SQL.list_old_field_keys, older_than, limit)]


async def list_index_keys(db: Queries, tenant_id: UUID) -> list[StoredIndexKey]:
    """Return every index key the tenant has had, oldest first."""
    return [StoredIndexKey(*row) for row in await db.fetch(SQL.list_index_keys, tenant_id)]


async def list_index_rotations(db: Queries) -> list[IndexRotationRow]:
    """Return both index keys of every tenant that has two in use."""
    return [IndexRotationRow(*row) for row in await db.fetch(SQL.list_index_rotations)]


async def lock_index_keys(transaction: Queries, tenant_id: UUID) -> set[bytes]:
    """Be the only one to change the tenant's index keys until the transaction ends; return the ids of those in use."""
    return {row["key_id"] for row in await transaction.fetch(SQL.lock_index_keys, tenant_id)}


async def switch_index_key(transaction: Queries, tenant_id: UUID) -> None:
    """Make the incoming index key the active one; the one before is written on and no longer read.

    The caller holds `lock_index_keys` and has seen that there is one coming in.
    """
    await transaction.execute(SQL.defer_two_in_use)
    await transaction.execute(SQL.retire_index_key, tenant_id)
    await transaction.execute(SQL.promote_index_key, tenant_id)


async def destroy_index_key(transaction: Queries, tenant_id: UUID, key_id: bytes) -> bool:
    """Mark an outgoing index key destroyed; tell whether it was outgoing."""
    return await transaction.execute(SQL.destroy_index_key, tenant_id, key_id) == "UPDATE 1"
