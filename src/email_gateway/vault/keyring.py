"""The keys a process holds: loaded once, proven when loaded, and never dropped while it lives."""

from dataclasses import dataclass
from uuid import UUID

from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.store import keys as store
from email_gateway.store.database import Database, Queries
from email_gateway.vault.boot import open_roots
from email_gateway.vault.data_keys import FieldKey, IndexKey, fingerprint_of, key_id_of, make_material
from email_gateway.vault.flights import Flights
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.root_source import RootSource
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import KeyName, Purpose, open_wrap, wrap


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant's active keys. Its methods are quick, wait for nothing and may run in any thread."""

    tenant_id: UUID
    field_key: FieldKey
    index_key: IndexKey

    @property
    def index_key_id(self) -> bytes:
        """The id stored beside each blind index, so that the index key can change one day."""
        return self.index_key.key_id

    def seal(self, field: str, row_id: UUID, plaintext: bytes) -> bytes:
        """Seal a value for one field of one row; it is 58 bytes longer than the plaintext."""
        return self.field_key.seal(field, row_id, plaintext)

    def blind(self, field: str, kind: int, canonical: bytes) -> bytes:
        """Return the 16-byte blind index of a value in its canonical form."""
        return self.index_key.blind(field, kind, canonical)

    def fingerprint(self, body: bytes) -> bytes:
        """Return 32 bytes that are equal for equal request bodies of this tenant."""
        return self.index_key.fingerprint(body)


class Keyring:
    """Every data key this process has met, opened with the root keys it holds."""

    def __init__(self, db: Database, roots: HeldRoots) -> None:
        self._db = db
        self.roots = roots
        self._tenants: dict[UUID, TenantKeys] = {}
        self._field_keys: dict[bytes, FieldKey] = {}
        self._tenant_loads = Flights[UUID, TenantKeys]()
        self._key_loads = Flights[bytes, FieldKey]()

    def __repr__(self) -> str:
        return f"Keyring({self.roots!r}, tenants={len(self._tenants)})"

    @classmethod
    async def start(cls, db: Database, source: RootSource) -> "Keyring":
        """Prove the root key of the secrets against the database, or begin the database with it.

        Raises WrongRootKey, naming root ids and VersionIds, as `boot.open_roots` does.
        """
        return cls(db, await open_roots(db, source))

    async def tenant(self, tenant_id: UUID) -> TenantKeys:
        """Return the tenant's keys, made on first use.

        Processes that make them at the same moment agree on one pair. Raises KeyUnavailable when
        no root at hand opens them, Tampered when their wraps were changed.
        """
        keys = self._tenants.get(tenant_id)
        if keys is None:
            keys = await self._tenant_loads.join(tenant_id, lambda: self._load_tenant(tenant_id))
        return keys

    def open_now(self, tenant_id: UUID, field: str, row_id: UUID, sealed: bytes) -> bytes | None:
        """Open a sealed value without waiting, or return None when its key is yet to be loaded.

        Raises Tampered unless it was sealed for this tenant, field and row.
        """
        key = self._field_keys.get(key_id_of(sealed))
        if key is None:
            return None
        if key.tenant_id != tenant_id:
            raise Tampered("the value was sealed for another tenant")
        return key.open(field, row_id, sealed)

    async def open(self, tenant_id: UUID, field: str, row_id: UUID, sealed: bytes) -> bytes:
        """Open a sealed value, loading the key it names when this process has not met it.

        Raises Tampered unless it was sealed for this tenant, field and row under a key that is not
        destroyed; KeyUnavailable when no root at hand opens that key.
        """
        plaintext = self.open_now(tenant_id, field, row_id, sealed)
        if plaintext is not None:
            return plaintext
        key_id = key_id_of(sealed)
        key = await self._key_loads.join(key_id, lambda: self._load_field_key(key_id))
        if key.tenant_id != tenant_id:
            raise Tampered("the value was sealed for another tenant")
        return key.open(field, row_id, sealed)

    async def reload(self) -> None:
        """Look for data keys that came into use since; the generation `keys` says when."""

    async def _load_field_key(self, key_id: bytes) -> FieldKey:
        stored = await store.find_key(self._db, key_id, self.roots.ids)
        if stored is None or stored.purpose != Purpose.FIELD:
            raise Tampered(f"the value names the field key {key_id.hex()}, which does not exist")
        if stored.state == "destroyed":
            raise Tampered(f"the value was sealed under the key {key_id.hex()}, which was destroyed")
        if stored.blob is None:
            await self.roots.obtain_for(self._db, key_id)
            return await self._load_field_key(key_id)
        return self._hold(FieldKey(self._unwrap(stored), stored.tenant_id))

    async def _load_tenant(self, tenant_id: UUID) -> TenantKeys:
        stored = await store.list_active_keys(self._db, tenant_id, self.roots.ids)
        if len(stored) == len(Purpose):
            for key in stored:
                if key.blob is None:
                    await self.roots.obtain_for(self._db, key.key_id)
                    return await self._load_tenant(tenant_id)
            materials = self._open_each(stored)
        else:
            materials = await self._make_keys(tenant_id)
        keys = TenantKeys(
            tenant_id,
            self._hold(FieldKey(materials[Purpose.FIELD], tenant_id)),
            IndexKey(materials[Purpose.INDEX], tenant_id),
        )
        self._tenants[tenant_id] = keys
        return keys

    async def _make_keys(self, tenant_id: UUID) -> dict[Purpose, bytes]:
        """Add the keys that the tenant lacks, and read them back before the transaction may commit."""
        await self._hold_active(self._db)
        async with self._db.transaction() as transaction:
            await store.lock_roots_shared(transaction)
            roots = await self._hold_active(transaction)
            # Always in this order: two processes that make keys of one tenant must not wait in a circle.
            for purpose in Purpose:
                material = make_material()
                name = KeyName(fingerprint_of(material), tenant_id, purpose)
                key = store.StoredKey(name.key_id, tenant_id, purpose, "active", None)
                await store.add_key(transaction, key, {root.root_id: wrap(root, name, material) for root in roots})
            # What another process committed first is what is read, and ours was not written.
            materials = self._open_each(await store.list_active_keys(transaction, tenant_id, self.roots.ids))
        if len(materials) != len(Purpose):
            raise KeyUnavailable(f"the keys made for tenant {tenant_id} cannot be read back")
        return materials

    async def _hold_active(self, db: Queries) -> list[RootKey]:
        """Return the roots to wrap a new key under: the active one must be held, the others are where they are.

        A key that lacks a wrap under a pending root gets it when that root is verified or adopted.
        """
        stored = await store.list_roots(db)
        active = next((root for root in stored if root.state == "active"), None)
        if active is None:
            raise KeyUnavailable("the database has no active root key")
        await self.roots.obtain(active)
        held = self.roots.by_id
        return [held[root.root_id] for root in stored if root.state != "retired" and root.root_id in held]

    def _open_each(self, stored: list[store.StoredKey]) -> dict[Purpose, bytes]:
        return {Purpose(key.purpose): self._unwrap(key) for key in stored}

    def _unwrap(self, stored: store.StoredKey) -> bytes:
        name = KeyName(stored.key_id, stored.tenant_id, Purpose(stored.purpose))
        return open_wrap(self.roots.by_id, name, stored.blob)

    def _hold(self, key: FieldKey) -> FieldKey:
        return self._field_keys.setdefault(key.key_id, key)
