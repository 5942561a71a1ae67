"""How data keys come into being: wrapped under every root in force, and read back before they count."""

from datetime import timedelta
from uuid import UUID

from email_gateway.errors import KeyUnavailable
from email_gateway.store import data_keys
from email_gateway.store import keys as store
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries
from email_gateway.vault.data_keys import fingerprint_of, make_material
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import KeyName, Purpose, open_wrap, wrap


async def make_first_keys(db: Database, held: HeldRoots, tenant_id: UUID) -> list[store.StoredKey]:
    """Add the keys that the tenant lacks, and return those in use.

    What another process committed first is what is read, and ours is not written then.
    """
    await hold_active(db, held)
    async with db.transaction() as transaction:
        roots = await lock_roots(transaction, held)
        # Always in this order: two processes that make keys of one tenant must not wait in a circle.
        for purpose in Purpose:
            await _add(transaction, roots, tenant_id, purpose, "active")
        return await read_back(transaction, held, tenant_id)


async def renew_field_key(
    transaction: Queries, held: HeldRoots, roots: list[RootKey], tenant_id: UUID, *, older_than: timedelta, actor: str
) -> bytes:
    """Make a new active field key in the place of one that is at least this old; return the id of the active one.

    Of two processes that do it at once the second finds it done.
    """
    is_due = await data_keys.demote_field_key(transaction, tenant_id, older_than)
    await _add(transaction, roots, tenant_id, Purpose.FIELD, "active")
    stored = await store.list_active_keys(transaction, tenant_id, held.ids)
    for key in stored:
        open_stored(held, key)
    key_id = next(key.key_id for key in stored if key.purpose == Purpose.FIELD)
    if is_due:
        await add_audit(transaction, actor=actor, action="field_key.renewed", tenant_id=tenant_id, subject=key_id.hex())
    return key_id


async def add_incoming_index_key(transaction: Queries, held: HeldRoots, roots: list[RootKey], tenant_id: UUID) -> bytes:
    """Make an index key that is written beside the active one and not read yet; return its id."""
    key_id = await _add(transaction, roots, tenant_id, Purpose.INDEX, "incoming")
    await read_back(transaction, held, tenant_id)
    return key_id


async def lock_roots(transaction: Queries, held: HeldRoots) -> list[RootKey]:
    """Keep the roots as they are until the transaction ends, and return those to wrap a new key under."""
    await store.lock_roots_shared(transaction)
    return await hold_active(transaction, held)


async def hold_active(db: Queries, held: HeldRoots) -> list[RootKey]:
    """Return the roots to wrap a new key under: the active one must be held, the others are where they are.

    A key that lacks a wrap under a pending root gets it when that root is verified or adopted.
    """
    stored = await store.list_roots(db)
    active = next((root for root in stored if root.state == "active"), None)
    if active is None:
        raise KeyUnavailable("the database has no active root key")
    await held.obtain(active)
    by_id = held.by_id
    return [by_id[root.root_id] for root in stored if root.state != "retired" and root.root_id in by_id]


async def read_back(transaction: Queries, held: HeldRoots, tenant_id: UUID) -> list[store.StoredKey]:
    """Return the tenant's keys in use, each of which opens as it is stored; raises KeyUnavailable otherwise."""
    stored = await data_keys.list_keys_in_use(transaction, tenant_id, held.ids)
    for key in stored:
        open_stored(held, key)
    if not is_complete(stored):
        raise KeyUnavailable(f"the keys made for tenant {tenant_id} cannot be read back")
    return stored


def is_complete(stored: list[store.StoredKey]) -> bool:
    """Tell whether there is an active key of each purpose."""
    return {key.purpose for key in stored if key.state == "active"} == set(Purpose)


def open_stored(held: HeldRoots, stored: store.StoredKey) -> bytes:
    """Unwrap a key as it was read; raises KeyUnavailable without a wrap, Tampered when that was changed."""
    name = KeyName(stored.key_id, stored.tenant_id, Purpose(stored.purpose))
    return open_wrap(held.by_id, name, stored.blob)


async def _add(transaction: Queries, roots: list[RootKey], tenant_id: UUID, purpose: Purpose, state: str) -> bytes:
    material = make_material()
    name = KeyName(fingerprint_of(material), tenant_id, purpose)
    key = store.StoredKey(name.key_id, tenant_id, purpose, state, None)
    await store.add_key(transaction, key, {root.root_id: wrap(root, name, material) for root in roots})
    return name.key_id
