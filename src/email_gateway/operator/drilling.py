"""Whether an export opens a database: its root keys, every data key, and a sample of what those seal.

All is read in one transaction in which PostgreSQL refuses to write, and nothing of AWS is asked. What an export
opens today a new data key or a rotation may close tomorrow: hence a drill by the calendar.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from email_gateway.errors import ConfigurationError, KeyUnavailable, OperationRefused, Tampered
from email_gateway.operator.exported import Export
from email_gateway.secrets.secret import SecretName
from email_gateway.store import keys as store
from email_gateway.store.accounts import list_tenants
from email_gateway.store.database import Database, Queries
from email_gateway.store.key_walks import Position, Relation, SealedPage, page_rows
from email_gateway.vault.data_keys import FieldKey, key_id_of
from email_gateway.vault.roots import RootKey, derive_root
from email_gateway.vault.wraps import KeyName, Purpose, open_canary, open_wrap

PAGE = 1_000
# Of the sample: the oldest rows of each table, and as many from a moment at random, of so many tenants.
MOST_TENANTS = 100
ROWS = 5
OCTETS = 1024 * 1024
UUID7_TIME_AT = 80  # bits after the milliseconds since 1970 (RFC 9562 section 5.7)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DrilledRoot:
    """A root key that the database knows: what the export has of it, and how many data keys it opens.

    `is_proven` says that its canary opens; None where the export cannot make this root key.
    """

    root_id: bytes
    state: str
    key_version_id: str
    salt_version_id: str
    is_proven: bool | None
    data_keys: int = 0


@dataclass(frozen=True, slots=True)
class Unopened:
    """Something of the database that did not open: a data key or a value, by its id."""

    what: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of a drill; `unopened` names everything that did not open."""

    roots: tuple[DrilledRoot, ...]
    data_keys: int
    opened_data_keys: int
    values: int
    opened_values: int
    unopened: tuple[Unopened, ...]

    @property
    def is_good(self) -> bool:
        """Whether all opened, the active root key included: what comes next is sealed below that one."""
        return not self.unopened


def derive_roots(export: Export) -> dict[bytes, RootKey]:
    """Return every root key that the export's keys and salts make, by its id.

    What cannot make one, such as a text that is too short, never has: it is passed over.
    """
    roots = {}
    for key in export.values_of(SecretName.ENCRYPTION_KEY):
        for salt in export.values_of(SecretName.ENCRYPTION_SALT):
            try:
                root = derive_root(key.value, salt.value)
            except ConfigurationError:
                continue
            roots[root.root_id] = root
    return roots


async def drill(db: Database, export: Export, report: Report) -> Drilled:
    """Open what can be opened, and name the rest; `report` is told what is being opened.

    Raises OperationRefused for a database in which nothing was ever sealed.
    """
    async with db.transaction() as transaction:
        await store.only_look(transaction)
        return await _Drill(transaction, derive_roots(export), report).run()


@dataclass(slots=True)
class _Drill:
    db: Queries
    derived: Mapping[bytes, RootKey]
    report: Report
    roots: dict[bytes, RootKey] = field(default_factory=dict)  # those that are proven
    opened: set[bytes] = field(default_factory=set)
    unopened: list[Unopened] = field(default_factory=list)
    field_keys: dict[bytes, FieldKey] = field(default_factory=dict)
    values: int = 0
    opened_values: int = 0

    async def run(self) -> Drilled:
        known = await store.list_roots(self.db)
        if not known:
            raise OperationRefused(
                "the database knows no root key: nothing was ever sealed in it", "check which one DATABASE_URL names"
            )
        roots = [await self._try_root(stored) for stored in known]
        live = await store.count_live_keys(self.db)
        await self._name_unopened()
        await self._open_values()
        return Drilled(
            tuple(roots), live, len(self.opened), self.values, self.opened_values, tuple(self.unopened)
        )  # fmt: skip

    async def _try_root(self, stored: store.StoredRoot) -> DrilledRoot:
        name = (stored.root_id, stored.state, stored.key_version_id, stored.salt_version_id)
        root = self.derived.get(stored.root_id)
        if root is None:
            if stored.state == "active":
                self._note("root key", stored.root_id.hex(), "the export cannot make the active root key")
            return DrilledRoot(*name, is_proven=None)
        try:
            open_canary(root, stored.canary)
        except Tampered as refused:
            self._note("root key", stored.root_id.hex(), str(refused))
            return DrilledRoot(*name, is_proven=False)
        self.roots[root.root_id] = root
        return DrilledRoot(*name, is_proven=True, data_keys=await self._open_keys(root))

    async def _open_keys(self, root: RootKey) -> int:
        """Open every wrap under a root key and return how many did."""
        count, after = 0, b""
        while page := await store.page_keys(self.db, root.root_id, [root.root_id], after, PAGE):
            self.report(f"data keys under root key {root.root_id.hex()[:8]}, {count} so far")
            after = page[-1].key.key_id
            # Off the loop: a thousand take some ten milliseconds.
            count += await asyncio.to_thread(self._open_page, root, [each.key for each in page if each.key.blob])
        return count

    def _open_page(self, root: RootKey, keys: list[store.StoredKey]) -> int:
        count = 0
        for key in keys:
            try:
                open_wrap({root.root_id: root}, _name_of(key), key.blob)
            except (KeyUnavailable, Tampered) as refused:
                self._note("data key", key.key_id.hex(), f"under root key {root.root_id.hex()}: {refused}")
            else:
                self.opened.add(key.key_id)
                count += 1
        return count

    async def _name_unopened(self) -> None:
        """Note the data keys that no root key of the export has a wrap of."""
        after = b""
        while page := await store.page_keys(self.db, b"", list(self.roots), after, PAGE):
            after = page[-1].key.key_id
            for each in page:
                if each.key.blob is None:
                    self._note("data key", each.key.key_id.hex(), "no root key of the export has a wrap of it")

    async def _open_values(self) -> None:
        tenants = await list_tenants(self.db)
        for tenant in random.sample(tenants, min(len(tenants), MOST_TENANTS)):
            self.report(f"a sample of values, {self.values} so far")
            for relation in Relation:
                await self._open_sample(relation, tenant.tenant_id)

    async def _open_sample(self, relation: Relation, tenant_id: UUID) -> None:
        oldest = await self._page(relation, tenant_id, Position())
        if oldest is None:
            return
        later = await self._page(relation, tenant_id, _draw_position(oldest.parent_ids[0]))
        rows = _rows_of(oldest) | (_rows_of(later) if later is not None else {})
        for row_id, values in rows.items():
            for name, value in zip(relation.fields, values, strict=True):
                if value is not None:
                    await self._open_value(name, row_id, value)

    async def _page(self, relation: Relation, tenant_id: UUID, after: Position) -> SealedPage | None:
        return await page_rows(self.db, relation, tenant_id, after, rows=ROWS, octets=OCTETS)

    async def _open_value(self, name: str, row_id: UUID, value: bytes) -> None:
        self.values += 1
        try:
            (await self._get_field_key(key_id_of(value))).open(name, row_id, value)
        except (KeyUnavailable, Tampered) as refused:
            self._note(name, str(row_id), str(refused))
        else:
            self.opened_values += 1

    async def _get_field_key(self, key_id: bytes) -> FieldKey:
        key = self.field_keys.get(key_id)
        if key is None:
            stored = await store.find_key(self.db, key_id, list(self.roots))
            if stored is None:
                raise KeyUnavailable(f"the database has no data key {key_id.hex()}")
            material = open_wrap(self.roots, _name_of(stored), stored.blob)
            key = self.field_keys[key_id] = FieldKey(material, stored.tenant_id)
        return key

    def _note(self, what: str, name: str, reason: str) -> None:
        self.unopened.append(Unopened(what, name, reason))


def _name_of(key: store.StoredKey) -> KeyName:
    return KeyName(key.key_id, key.tenant_id, Purpose(key.purpose))


def _rows_of(page: SealedPage) -> dict[UUID, tuple[bytes | None, ...]]:
    return dict(zip(page.row_ids, zip(*page.values, strict=True), strict=True))


def _draw_position(first: UUID) -> Position:
    """Return a place at a random moment between a row that is a UUIDv7 and now."""
    began = first.int >> UUID7_TIME_AT
    now = max(time.time_ns() // 1_000_000, began)
    return Position(UUID(int=(began + secrets.randbelow(now - began + 1)) << UUID7_TIME_AT))
