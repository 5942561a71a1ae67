"""The keys a process holds: loaded once, proven when loaded, and never dropped while it lives."""

import asyncio
from datetime import timedelta
from uuid import UUID

from email_gateway.errors import KeysNotFollowed, KeyUnavailable, Tampered
from email_gateway.flights import Flights
from email_gateway.observe import get_logger
from email_gateway.store import data_keys
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, bump_generation
from email_gateway.vault.boot import open_roots
from email_gateway.vault.data_keys import FieldKey, IndexKey, key_id_of
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.key_making import hold_active, is_complete, lock_roots, make_first_keys, open_stored
from email_gateway.vault.key_making import renew_field_key as make_field_key
from email_gateway.vault.root_source import RootSource
from email_gateway.vault.tenant_keys import TenantKeys
from email_gateway.vault.wraps import Purpose

log = get_logger(__name__)

WORKER = "worker"  # in the audit, of what is done by age and not by a person
# Requests that began with older keys are given this long to be stored, while a reload waits for them.
REQUESTS_LAST = timedelta(seconds=10)
# Opening more than this would hold up everything else on the event loop.
OFF_LOOP_BYTES = 64 * 1024


class Keyring:
    """Every data key this process has met, opened with the root keys it holds."""

    def __init__(self, db: Database, roots: HeldRoots) -> None:
        self._db = db
        self.roots = roots
        self._tenants: dict[UUID, TenantKeys] = {}
        self._field_keys: dict[bytes, FieldKey] = {}
        self._outgoing: list[TenantKeys] = []
        self._reloading = asyncio.Lock()
        self._reloads = 0
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

    def count_held(self) -> dict[Purpose, int]:
        """Return how many data keys this process has met, by purpose."""
        index_keys = sum(len(keys.index_keys) for keys in self._tenants.values())
        return {Purpose.FIELD: len(self._field_keys), Purpose.INDEX: index_keys}

    async def tenant(self, tenant_id: UUID) -> TenantKeys:
        """Return the tenant's keys, made on first use.

        Processes that make them at the same moment agree on one pair. Raises KeyUnavailable when
        no root at hand opens them, Tampered when their wraps were changed.
        """
        keys = self._tenants.get(tenant_id)
        if keys is None:
            await self._tenant_loads.join(tenant_id, lambda: self._load_tenant(tenant_id))
            # Not what the load returned: a reload may have put newer keys there before we were woken.
            keys = self._tenants[tenant_id]
        return keys

    async def open(self, tenant_id: UUID, field: str, row_id: UUID, sealed: bytes) -> bytes:
        """Open a sealed value, loading the key it names when this process has not met it.

        A large one is opened in a thread, beside the event loop. Raises Tampered unless it was sealed
        for this tenant, field and row under a key that is not destroyed; KeyUnavailable when no root
        at hand opens that key.
        """
        key = await self.find_field_key(key_id_of(sealed))
        if key.tenant_id != tenant_id:
            raise Tampered("the value was sealed for another tenant")
        if len(sealed) > OFF_LOOP_BYTES:
            return await asyncio.to_thread(key.open, field, row_id, sealed)
        return key.open(field, row_id, sealed)

    async def find_field_key(self, key_id: bytes) -> FieldKey:
        """Return the field key of this id, loaded when this process has not met it; raises as `open` does."""
        return self._field_keys.get(key_id) or await self._key_loads.join(key_id, lambda: self._load_field_key(key_id))

    async def renew_field_key(self, tenant_id: UUID, *, actor: str = WORKER) -> bytes:
        """Have the tenant's values sealed under a new field key from now on, and return its id.

        The old key opens for ever. Every process learns of it at the commit, which also holds the
        audit row. Raises KeyUnavailable when the active root is out of reach.
        """
        await hold_active(self._db, self.roots)
        async with self._db.transaction() as transaction:
            roots = await lock_roots(transaction, self.roots)
            key_id = await make_field_key(
                transaction, self.roots, roots, tenant_id, older_than=timedelta(0), actor=actor
            )
            await bump_generation(transaction, Subject.KEYS)
        await self._follow()
        return key_id

    async def renew_old_field_keys(self, older_than: timedelta, *, limit: int = 100) -> int:
        """Renew up to `limit` field keys that are at least this old, the oldest first; return their number."""
        tenants = await data_keys.list_old_field_keys(self._db, older_than, limit)
        if not tenants:
            return 0
        await hold_active(self._db, self.roots)
        async with self._db.transaction() as transaction:
            roots = await lock_roots(transaction, self.roots)
            for tenant_id in sorted(tenants):  # in one order: two workers must not wait in a circle
                await make_field_key(transaction, self.roots, roots, tenant_id, older_than=older_than, actor=WORKER)
            await bump_generation(transaction, Subject.KEYS)
        await self._follow()
        return len(tenants)

    async def reload(self) -> None:
        """Take up the keys that came into use since, for the tenants that this process has met.

        When it returns, nothing is written under other index keys than those that were in use when it
        began: the process may say that it has followed. Raises KeysNotFollowed otherwise, when a
        new key cannot be opened (the old ones stay in use) or requests that began with the old ones
        are not stored yet; calling again goes on from there.
        """
        late = await self._follow()
        if late:
            raise KeysNotFollowed(f"the new keys of {late} tenants cannot be opened")
        try:
            async with asyncio.timeout(REQUESTS_LAST.total_seconds()):
                for keys in self._outgoing:
                    await keys.uses.wait()
        except TimeoutError:
            raise KeysNotFollowed("requests that began with older keys are still being stored") from None

    async def _follow(self) -> int:
        """Swap in the keys in use of each tenant for whom they changed; return how many could not be opened."""
        async with self._reloading:
            # A load that is under way may have read before the change: it looks at this number.
            self._reloads += 1
            held = {tenant_id: keys.key_ids for tenant_id, keys in self._tenants.items()}
            changed = await data_keys.list_changed_keys(self._db, held, self.roots.ids) if held else {}
            late = 0
            for tenant_id, stored in changed.items():
                if not is_complete(stored):  # its keys were destroyed: what is loaded is not dropped
                    continue
                try:
                    keys = await self._open_tenant(tenant_id, stored)
                except (KeyUnavailable, Tampered) as error:
                    late += 1
                    log.warning("tenant_keys_not_followed", tenant_id=str(tenant_id), error=error)
                else:
                    self._outgoing.append(self._tenants[tenant_id])
                    self._tenants[tenant_id] = keys
            self._outgoing = [keys for keys in self._outgoing if not keys.uses.are_over]
        return late

    async def _load_field_key(self, key_id: bytes) -> FieldKey:
        stored = await store.find_key(self._db, key_id, self.roots.ids)
        if stored is None or stored.purpose != Purpose.FIELD:
            raise Tampered(f"the value names the field key {key_id.hex()}, which does not exist")
        if stored.state == "destroyed":
            raise Tampered(f"the value was sealed under the key {key_id.hex()}, which was destroyed")
        return self._hold(FieldKey(await self._open_key(stored), stored.tenant_id))

    async def _load_tenant(self, tenant_id: UUID) -> TenantKeys:
        while True:
            reloads = self._reloads
            stored = await data_keys.list_keys_in_use(self._db, tenant_id, self.roots.ids)
            if not is_complete(stored):
                stored = await make_first_keys(self._db, self.roots, tenant_id)
            keys = await self._open_tenant(tenant_id, stored)
            # A reload that began meanwhile did not know of this tenant: what it was about is read again.
            if self._reloads == reloads:
                self._tenants[tenant_id] = keys
                return keys

    async def _open_tenant(self, tenant_id: UUID, stored: list[store.StoredKey]) -> TenantKeys:
        """Return the tenant's keys in use; those that are held already are taken as they are."""
        before = self._tenants.get(tenant_id)
        index_keys = {key.key_id: key for key in before.index_keys} if before else {}
        # One key seals; of the others the one that is searched stands first: so they are listed.
        sealing, *indexing = stored
        field_key = self._field_keys.get(sealing.key_id)
        if field_key is None:
            field_key = self._hold(FieldKey(await self._open_key(sealing), tenant_id))
        searched, *beside = [
            index_keys.get(key.key_id) or IndexKey(await self._open_key(key), tenant_id) for key in indexing
        ]
        return TenantKeys(tenant_id, field_key, searched, tuple(beside))

    async def _open_key(self, stored: store.StoredKey) -> bytes:
        if stored.blob is None:
            await self.roots.obtain_for(self._db, stored.key_id)
            stored = await store.find_key(self._db, stored.key_id, self.roots.ids) or stored
        return open_stored(self.roots, stored)

    def _hold(self, key: FieldKey) -> FieldKey:
        return self._field_keys.setdefault(key.key_id, key)
