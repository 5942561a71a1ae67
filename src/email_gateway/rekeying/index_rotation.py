"""Moving a tenant's blind index, and what its suppressions are found by, to a new key while mail arrives.

begin -> every process writes under both keys -> copy -> the counts agree -> switch: searches read
the new one -> a day later, drop. Where a rotation stands is what the database says, so each call
goes on from there. Requests' idempotency keys are HMACs under the index key and live for a day:
the old key is kept until all that were stored under it alone have expired.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from email_gateway.errors import Conflict
from email_gateway.mail.content import Content
from email_gateway.mail.search_terms import address_term, canonical_envelope, search_terms
from email_gateway.mail.tax_ids import unpack_tax_id
from email_gateway.rekeying.followers import PATIENCE, wait_for_followers
from email_gateway.rekeying.walking import Done, OldKeys, Pace, Progress, Steps, walk_on
from email_gateway.store import data_keys
from email_gateway.store.accepting import IDEMPOTENCY_WINDOW
from email_gateway.store.audit import add_audit
from email_gateway.store.blind_index import (
    FIELDS,
    Entry,
    add_blind_indexes,
    count_blind_indexes,
    delete_blind_indexes,
)
from email_gateway.store.data_keys import StoredIndexKey
from email_gateway.store.database import Database, Queries
from email_gateway.store.generations import Subject, bump_generation
from email_gateway.store.key_walks import COPIES, Position, SealedPage, begin_walk, count_rows, find_walk
from email_gateway.store.suppressions import (
    IndexEntry,
    add_suppression_indexes,
    count_suppression_indexes,
    delete_suppression_indexes,
)
from email_gateway.suppressions import FIELD as SUPPRESSION_ENTRY
from email_gateway.suppressions import canonical_of
from email_gateway.vault.data_keys import IndexKey
from email_gateway.vault.key_making import add_incoming_index_key, hold_active, lock_roots
from email_gateway.vault.keyring import Keyring

KEPT_FOR = IDEMPOTENCY_WINDOW
_CONTENT = msgspec.msgpack.Decoder(Content)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class InUse:
    """A tenant's index keys in use: the one that is read, and the one beside it, if any."""

    active: StoredIndexKey
    beside: StoredIndexKey | None

    @property
    def is_switched(self) -> bool:
        return self.beside is not None and self.beside.state == "decrypt_only"

    @property
    def may_drop_in(self) -> timedelta:
        return max(KEPT_FOR - self.active.age, timedelta())


@dataclass(frozen=True, slots=True)
class IndexRotation:
    """The rotation of one tenant's index key; `actor` stands in the audit, `say` hears of each step."""

    db: Database
    keyring: Keyring
    tenant_id: UUID
    actor: str
    say: Say
    progress: Progress
    pace: Pace
    patience: timedelta = PATIENCE

    async def in_use(self, db: Queries | None = None) -> InUse:
        """Return where the rotation stands."""
        await self.keyring.tenant(self.tenant_id)  # a tenant without keys gets its first
        keys = {key.state: key for key in await data_keys.list_index_keys(db or self.db, self.tenant_id)}
        return InUse(keys["active"], keys.get("incoming") or keys.get("decrypt_only"))

    async def count_rows(self) -> int:
        """Return about how many messages and suppressions are yet to be copied."""
        in_use = await self.in_use()
        if in_use.is_switched:
            return 0
        rows = 0
        for name, relation in COPIES.items():
            walk = await find_walk(self.db, self.tenant_id, name)
            is_begun = walk is not None and in_use.beside is not None and walk.key_id == in_use.beside.key_id
            at = walk.at if walk is not None and is_begun else Position()
            rows += await count_rows(self.db, relation, self.tenant_id, at)
        return rows

    async def rotate(self) -> InUse:
        """Go on until searches read the new key on every process, from wherever the rotation stands.

        Raises Conflict naming what is in the way: a process that does not follow, messages that do
        not open; nothing is lost then, and the same call goes on.
        """
        in_use = await self.in_use()
        if in_use.beside is None:
            self.say("making a new index key")
            await self._begin()
        if not in_use.is_switched:
            self.say("waiting until every process writes under both keys")
            await wait_for_followers(self.db, self.patience)
            await self.keyring.reload()
            await self._copy_what_is_missing()
            self.say("switching searches to the new key")
            await self._switch()
        self.say("waiting until every process reads the new key")
        await wait_for_followers(self.db, self.patience)
        await self.keyring.reload()
        return await self.in_use()

    async def drop(self) -> int:
        """Destroy the outgoing index key and delete its entries; return how many.

        Raises Conflict while a process has not followed the switch, or within 24 hours of it.
        """
        in_use = await self.in_use()
        if in_use.beside is not None:
            self._require_old_enough(in_use)
            self.say("waiting until every process reads the new key")
            await wait_for_followers(self.db, self.patience)
            await self.keyring.reload()
            await self._copy_what_is_missing()
            await self._destroy()
        self.say("waiting until no process writes under the old key")
        await wait_for_followers(self.db, self.patience)
        await self.keyring.reload()
        return await self._delete_entries()

    async def _begin(self) -> None:
        held = self.keyring.roots
        await hold_active(self.db, held)
        async with self.db.transaction() as transaction:
            roots = await lock_roots(transaction, held)
            await data_keys.lock_index_keys(transaction, self.tenant_id)
            if (await self.in_use(transaction)).beside is not None:
                return  # another command was quicker
            key_id = await add_incoming_index_key(transaction, held, roots, self.tenant_id)
            await bump_generation(transaction, Subject.KEYS)
            await self._audit(transaction, "index_key.added", key_id)

    async def _copy_what_is_missing(self) -> None:
        """Write the entries that the newer key lacks, until both keys have as many of every field."""
        newer, older = self._newer_and_older(await self.in_use())
        walks = [await find_walk(self.db, self.tenant_id, name) for name in COPIES]
        are_walked = all(walk and walk.key_id == newer and walk.finished_at is not None for walk in walks)
        if are_walked and await self._agree(self.db, newer, older):
            return
        self.say("copying the entries to the new key")
        unreadable = [await self._copy(copy, newer) for copy in COPYING]
        if not await self._agree(self.db, newer, older):
            raise Conflict(
                f"the index has other numbers of entries under both keys, and {sum(unreadable)} messages or suppressions"
                " do not open: nothing was switched or dropped. Restore those from a backup, then run this again"
            )

    async def _copy(self, copy: "Copy", newer: bytes) -> int:
        """Walk over what one index is made from; return how many rows did not open."""
        key = next(key for key in (await self.keyring.tenant(self.tenant_id)).index_keys if key.key_id == newer)
        old_keys = OldKeys(self.keyring, self.tenant_id)

        async def write(transaction: Queries, entries: list[Any]) -> int:
            return await copy.add(transaction, self.tenant_id, entries)

        steps = Steps(COPIES[copy.walk], lambda page: copy.make(page, old_keys, key), write)
        walk = await begin_walk(self.db, self.tenant_id, copy.walk, newer)
        counts = await walk_on(self.db, walk, old_keys, steps, self.pace, self.progress)
        return counts.unreadable

    async def _switch(self) -> None:
        async with self.db.transaction() as transaction:
            await data_keys.lock_index_keys(transaction, self.tenant_id)
            in_use = await self.in_use(transaction)
            if in_use.beside is None or in_use.is_switched:
                return  # another command was quicker
            await self._require_agreement(transaction, in_use)
            await data_keys.switch_index_key(transaction, self.tenant_id)
            await bump_generation(transaction, Subject.KEYS)
            await self._audit(transaction, "index_key.switched", in_use.beside.key_id)

    async def _destroy(self) -> None:
        async with self.db.transaction() as transaction:
            await data_keys.lock_index_keys(transaction, self.tenant_id)
            in_use = await self.in_use(transaction)
            if in_use.beside is None:
                return  # another command was quicker
            self._require_old_enough(in_use)
            await self._require_agreement(transaction, in_use)
            await data_keys.destroy_index_key(transaction, self.tenant_id, in_use.beside.key_id)
            await bump_generation(transaction, Subject.KEYS)
            await self._audit(transaction, "index_key.destroyed", in_use.beside.key_id)

    async def _delete_entries(self) -> int:
        """Delete what stands under destroyed keys, also of an earlier call that was killed."""
        deleted = 0
        for key in await data_keys.list_index_keys(self.db, self.tenant_id):
            if key.state != "destroyed":
                continue
            for field in FIELDS:
                while batch := await delete_blind_indexes(self.db, self.tenant_id, key.key_id, field):
                    deleted += batch
                    await self.pace.keep(batch)
            while batch := await delete_suppression_indexes(self.db, self.tenant_id, key.key_id):
                deleted += batch
                await self.pace.keep(batch)
        return deleted

    async def _require_agreement(self, transaction: Queries, in_use: InUse) -> None:
        if not await self._agree(transaction, *self._newer_and_older(in_use)):
            raise Conflict("the index has other numbers of entries under both keys: run this command again")

    async def _agree(self, db: Queries, newer: bytes, older: bytes) -> bool:
        of_fields = await count_blind_indexes(db, self.tenant_id, newer, older)
        of_suppressions = await count_suppression_indexes(db, self.tenant_id, newer, older)
        return all(newer_count == older_count for newer_count, older_count in (*of_fields.values(), of_suppressions))

    def _newer_and_older(self, in_use: InUse) -> tuple[bytes, bytes]:
        if in_use.beside is None:
            raise Conflict("this tenant has one index key: there is nothing to copy or to drop")
        ids = (in_use.active.key_id, in_use.beside.key_id)
        return ids if in_use.is_switched else ids[::-1]

    def _require_old_enough(self, in_use: InUse) -> None:
        if not in_use.is_switched:
            raise Conflict("searches still read the old index key: finish `keys index rotate` first")
        if in_use.may_drop_in:
            hours = in_use.may_drop_in.total_seconds() / 3600
            raise Conflict(
                "the old index key is kept for 24 hours after the switch, as long as an idempotency key lives:"
                f" drop it in {hours:.1f} hours"
            )

    async def _audit(self, transaction: Queries, action: str, key_id: bytes) -> None:
        await add_audit(transaction, actor=self.actor, action=action, tenant_id=self.tenant_id, subject=key_id.hex())


def index_page(page: SealedPage, old_keys: OldKeys, key: IndexKey) -> Done[list[Entry]]:
    """Open each message of a page and make its entries under an index key, as intake does; in a thread."""
    entries: list[Entry] = []
    unreadable: list[UUID] = []
    sealed_contents, sealed_tax_ids, _ = page.values  # a summary repeats what the content says
    contents = old_keys.open("message.content", page.row_ids, sealed_contents)
    tax_ids = old_keys.open("message.tax_id", page.row_ids, sealed_tax_ids)
    for message_id, content, tax_id, sealed in zip(page.row_ids, contents, tax_ids, sealed_tax_ids, strict=True):
        if content is None or (tax_id is None and sealed is not None):
            unreadable.append(message_id)
            continue
        read = _CONTENT.decode(content)
        terms = search_terms(read, None if tax_id is None else unpack_tax_id(tax_id), canonical_envelope(read))
        entries += [(message_id, key.key_id, field, key.blind(field, kind, form)) for field, kind, form in terms]
    return Done(entries, len(entries), tuple(unreadable))


def suppression_page(page: SealedPage, old_keys: OldKeys, key: IndexKey) -> Done[list[IndexEntry]]:
    """Open each suppression of a page and make its entry under an index key; in a thread."""
    (sealed,) = page.values
    opened = old_keys.open(SUPPRESSION_ENTRY, page.row_ids, sealed)
    entries = [
        (row_id, key.key_id, key.blind(*address_term(canonical_of(packed))))
        for row_id, packed in zip(page.row_ids, opened, strict=True)
        if packed is not None
    ]
    unreadable = tuple(row_id for row_id, packed in zip(page.row_ids, opened, strict=True) if packed is None)
    return Done(entries, len(entries), unreadable)


@dataclass(frozen=True, slots=True)
class Copy:
    """One index, by its walk of `COPIES`: what makes its entries from a page, and what writes them."""

    walk: str
    make: Callable[[SealedPage, OldKeys, IndexKey], Done[Any]]
    add: Callable[[Queries, UUID, list[Any]], Awaitable[int]]


COPYING = (
    Copy("blind_index", index_page, add_blind_indexes),
    Copy("suppression_index", suppression_page, add_suppression_indexes),
)
