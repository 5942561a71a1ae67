"""Walks over a tenant's sealed rows, in the order of their primary keys; each keeps its place in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from email_gateway.errors import Conflict
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("key_walks")

START = UUID(int=0)


class Relation(StrEnum):
    """The tables that hold sealed values. The names of the values are bound into them and never change."""

    MESSAGE = "message"
    ATTACHMENT = "attachment"
    EVENT = "event"
    INBOX_MAIL = "inbox_mail"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the logical names of a row's sealed values, in the order in which a page gives them."""
        return FIELDS[self]


FIELDS = {
    Relation.MESSAGE: ("message.content", "message.tax_id"),
    Relation.ATTACHMENT: ("attachment.content",),
    Relation.EVENT: ("event.reply",),
    Relation.INBOX_MAIL: ("inbox.raw",),
}


class Position(NamedTuple):
    """A row: the message it belongs to, or itself, and the id that its values are bound to."""

    parent_id: UUID = START
    row_id: UUID = START


@dataclass(frozen=True, slots=True)
class SealedPage:
    """Rows on a walk by columns, one at least: of each row where it stands, its version, and its values.

    The version is another number after every change of the row. `values` has a column for each of
    `Relation.fields`, with None where a row has no value.
    """

    parent_ids: tuple[UUID, ...]
    row_ids: tuple[UUID, ...]
    versions: tuple[int, ...]
    values: tuple[tuple[bytes | None, ...], ...]

    @property
    def end(self) -> Position:
        return Position(self.parent_ids[-1], self.row_ids[-1])

    def __len__(self) -> int:
        return len(self.row_ids)


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of the values on a walk: moved, left because they were changed meanwhile, or not to be opened."""

    moved: int = 0
    skipped: int = 0
    unreadable: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.moved + other.moved, self.skipped + other.skipped, self.unreadable + other.unreadable)


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk that moves a tenant's rows to a key, and where it stands."""

    tenant_id: UUID
    name: str
    key_id: bytes
    at: Position
    counts: Counts
    finished_at: datetime | None


async def begin_walk(db: Queries, tenant_id: UUID, name: str, key_id: bytes) -> Walk:
    """Return where the walk stands: at its start, unless one about the same key was left unfinished."""
    await db.execute(SQL.begin_walk, tenant_id, name, key_id, START)
    walk = await find_walk(db, tenant_id, name)
    assert walk is not None  # nobody deletes it
    return walk


async def find_walk(db: Queries, tenant_id: UUID, name: str) -> Walk | None:
    """Return where a walk stands or how it ended, or None when there never was one."""
    row = await db.fetch_one(SQL.find_walk, tenant_id, name)
    if row is None:
        return None
    tenant_id, name, key_id, parent_id, row_id, moved, skipped, unreadable, finished_at = row
    counts = Counts(moved, skipped, unreadable)
    return Walk(tenant_id, name, key_id, Position(parent_id, row_id), counts, finished_at)


async def advance_walk(transaction: Queries, walk: Walk, to: Position, counts: Counts, *, is_finished: bool) -> Walk:
    """Note that everything up to a row is done, in the transaction that wrote what was moved.

    Returns the walk as it stands then. Raises Conflict unless it stands where `walk` says: another
    command has begun it for another key, or has moved it.
    """
    row = await transaction.fetch_one(
        SQL.advance_walk,
        walk.tenant_id,
        walk.name,
        walk.key_id,
        *walk.at,
        *to,
        counts.moved,
        counts.skipped,
        counts.unreadable,
        is_finished,
    )
    if row is None:
        raise Conflict(
            f"another command works on the same values ({walk.name}): what was moved stays moved."
            " Let it finish, then run this again"
        )
    return replace(walk, at=to, counts=walk.counts + counts)


async def count_rows(db: Queries, relation: Relation, tenant_id: UUID, after: Position) -> int:
    """Return about how many rows there are after a position."""
    row = await db.fetch_one(getattr(SQL, f"count_{relation}"), tenant_id, after.parent_id)
    return row["count"] if row else 0


async def page_rows(
    db: Queries, relation: Relation, tenant_id: UUID, after: Position, *, rows: int, octets: int
) -> SealedPage | None:
    """Return the next rows, at most so many and none after that with which they reach so many octets; None at the end."""
    found = await db.fetch(getattr(SQL, f"page_{relation}"), tenant_id, *after, rows, octets)
    if not found:
        return None
    parent_ids, row_ids, versions, *values = zip(*found, strict=True)
    return SealedPage(parent_ids, row_ids, versions, tuple(values))


async def commit_lazily(transaction: Queries) -> None:
    """Let this transaction's commit not wait for the disk: a walk repeats what a crash undid."""
    await transaction.execute(SQL.commit_lazily)


async def replace_values(
    transaction: Queries,
    relation: Relation,
    tenant_id: UUID,
    page: SealedPage,
    fresh: Sequence[Sequence[bytes | None]],
) -> int:
    """Put new values in the place of a page's, in one statement, and return how many took it.

    `fresh` has the columns of `page.values`, with None where a row keeps what it has. A row that was
    changed meanwhile, in whatever column, stays as it is.
    """
    row = await transaction.fetch_one(
        getattr(SQL, f"replace_{relation}"), tenant_id, page.parent_ids, page.row_ids, page.versions, *fresh
    )
    return int(row["number"]) if row else 0
