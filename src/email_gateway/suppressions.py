"""Addresses that get no mail, as people write them: blind to be found, sealed to be kept, opened to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from email_gateway.errors import KeysNotFollowed, NotFound
from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.search_terms import address_term
from email_gateway.store import suppressions as store
from email_gateway.store.data_keys import lock_index_keys
from email_gateway.store.database import Database
from email_gateway.store.group_commit import GroupCommit
from email_gateway.store.pages import Page
from email_gateway.store.suppressions import NewSuppression, Reason, StoredSuppression
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.tenant_keys import TenantKeys

FIELD = "suppression.entry"
MAX_NOTE_CHARACTERS = 200
# An index key may be changed once while its lock is waited for, and again while the new one is loaded.
TRIES = 5
MOST_LOOKED_UP = 500  # in one statement

Recipient = tuple[UUID, bytes, bytes]  # tenant id, index key id, blind value of the address


class SealedEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is sealed of a suppression: the address as it was given, and what was noted beside it."""

    address: str
    note: str | None = None

    def __repr__(self) -> str:
        return "SealedEntry(...)"


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """An address to suppress; without `expires_at` until somebody removes it."""

    address: str
    reason: Reason = Reason.MANUAL
    source_id: UUID | None = None
    note: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Suppression:
    """A suppression in force, opened."""

    suppression_id: UUID
    address: str
    reason: Reason
    source_id: UUID | None
    note: str | None
    created_at: datetime
    expires_at: datetime | None


_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(SealedEntry).decode


class Suppressions:
    """The suppression lists of all tenants. Addresses are compared as `canonical_address` has them."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._looks = GroupCommit[list[Recipient], list[Reason | None]](
            self._look, weigh=len, max_weight=MOST_LOOKED_UP
        )

    async def add(self, tenant_id: UUID, entries: Sequence[Entry]) -> list[tuple[UUID, bool]]:
        """Suppress addresses, all or none; return the id of each suppression in order, and whether it is new.

        An address that is suppressed already, or given twice, keeps what it has, for the longer of both times. Raises InvalidAddress. What commits is found under every
        index key in use: the keys are locked and compared, so that a change of them misses nothing.
        """
        by_address: dict[bytes, Entry] = {}
        places = [canonical_address(entry.address) for entry in entries]
        for address, entry in zip(places, entries, strict=True):
            first = by_address.get(address, entry)
            by_address[address] = replace(first, expires_at=_longer(first.expires_at, entry.expires_at))
        for _ in range(TRIES):
            keys = await self._keyring.tenant(tenant_id)
            fresh = [_seal(keys, address, entry) for address, entry in by_address.items()]
            async with self._db.transaction() as transaction:
                if await lock_index_keys(transaction, tenant_id) == {key.key_id for key in keys.index_keys}:
                    ids = await store.add_suppressions(transaction, tenant_id, fresh)
                    found = {
                        address: (suppression_id, suppression_id == new.suppression_id)
                        for address, suppression_id, new in zip(by_address, ids, fresh, strict=True)
                    }
                    return [found[address] for address in places]
            await self._keyring.reload()
        raise KeysNotFollowed("the tenant's index keys change faster than they can be loaded")

    async def remove(self, tenant_id: UUID, suppression_ids: Sequence[UUID]) -> list[UUID]:
        """End suppressions; return the ids of those that were in force, in the order given."""
        removed = await store.remove_suppressions(self._db, tenant_id, suppression_ids)
        return [one for one in dict.fromkeys(suppression_ids) if one in removed]

    async def find_ids(self, tenant_id: UUID, addresses: Sequence[str]) -> list[UUID | None]:
        """Return the suppression in force of each address, or None; raises InvalidAddress."""
        keys = await self._keyring.tenant(tenant_id)
        values = [keys.blind(*address_term(canonical_address(address))) for address in addresses]
        found = await store.find_by_values(self._db, tenant_id, keys.index_key_id, values)
        return [found.get(value) for value in values]

    async def find_reasons(self, tenant_id: UUID, addresses: Sequence[str]) -> list[Reason | None]:
        """Return why each address gets no mail, or None; many who ask at a time share one statement."""
        keys = await self._keyring.tenant(tenant_id)
        return await self._looks.submit(
            [(tenant_id, keys.index_key_id, keys.blind(*address_term(canonical_address(one)))) for one in addresses]
        )

    async def get(self, tenant_id: UUID, suppression_id: UUID) -> Suppression:
        """Return one suppression; raises NotFound, also for another tenant's and for one that has expired."""
        return await self._open(tenant_id, await store.get_suppression(self._db, tenant_id, suppression_id))

    async def find(self, tenant_id: UUID, address: str) -> Suppression:
        """Return the suppression of an address; raises NotFound, and InvalidAddress."""
        (suppression_id,) = await self.find_ids(tenant_id, [address])
        if suppression_id is None:
            raise NotFound("this address is not suppressed")
        return await self.get(tenant_id, suppression_id)

    async def list_page(
        self, tenant_id: UUID, page: Page, reasons: Sequence[Reason] = tuple(Reason)
    ) -> tuple[list[Suppression], bool]:
        """Return a page, newest first, and whether there are more that way."""
        stored, has_more = await store.list_suppressions(self._db, tenant_id, page, reasons)
        return [await self._open(tenant_id, one) for one in stored], has_more

    async def _look(self, group: list[list[Recipient]]) -> list[list[Reason | None]]:
        reasons = iter(await store.find_reasons(self._db, [recipient for member in group for recipient in member]))
        return [list(islice(reasons, len(member))) for member in group]

    async def _open(self, tenant_id: UUID, stored: StoredSuppression) -> Suppression:
        opened = _UNPACK(await self._keyring.open(tenant_id, FIELD, stored.suppression_id, stored.sealed_entry))
        return Suppression(
            stored.suppression_id,
            opened.address,
            stored.reason,
            stored.source_id,
            opened.note,
            stored.created_at,
            stored.expires_at,
        )


def _longer(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


def _seal(keys: TenantKeys, address: bytes, entry: Entry) -> NewSuppression:
    suppression_id = uuid7()
    return NewSuppression(
        suppression_id=suppression_id,
        sealed_entry=keys.seal(FIELD, suppression_id, _PACK(SealedEntry(entry.address, entry.note))),
        reason=entry.reason,
        source_id=entry.source_id,
        expires_at=entry.expires_at,
        blind=suppression_values(keys, address),
    )


def suppression_values(keys: TenantKeys, address: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return what a suppression of a canonical address is found by: (index key id, value) under each index key."""
    return tuple((key_id, value) for key_id, _, value in keys.blind_each([address_term(address)]))


def canonical_of(packed: bytes) -> bytes:
    """Return the canonical address of an opened entry, to index it under another key."""
    return canonical_address(_UNPACK(packed).address)
