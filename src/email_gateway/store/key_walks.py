"""Walks over a tenant's sealed rows, in the order of their primary keys; each keeps its place in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from email_gateway.errors import Conflict
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("key_walks")

START = UUID(int=0)
# Counting so many index entries on each side takes 3 to 9 ms.
MOST_MEASURED = 10_000


class Relation(StrEnum):
    """The tables that hold sealed values. The names of the values are bound into them and never change."""

    MESSAGE = "message"
    ATTACHMENT = "attachment"
    EVENT = "event"
    INBOX_MAIL = "inbox_mail"
    DKIM_KEY = "dkim_key"
    SUPPRESSION = "suppression"
    TEMPLATE_VERSION = "template_version"
    WEBHOOK = "webhook"
    WEBHOOK_DELIVERY = "webhook_delivery"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the logical names of a row's sealed values, in the order in which a page gives them."""
        return FIELDS[self]


FIELDS = {
    Relation.MESSAGE: ("message.content", "message.tax_id", "message.summary"),
    Relation.ATTACHMENT: ("attachment.content", "attachment.summary"),
    Relation.EVENT: ("event.reply",),
    Relation.INBOX_MAIL: ("inbox.raw",),
    Relation.DKIM_KEY: ("domain.dkim_key",),
    Relation.SUPPRESSION: ("suppression.entry",),
    Relation.TEMPLATE_VERSION: ("template.content",),
    Relation.WEBHOOK: ("webhook.endpoint", "webhook.secret", "webhook.old_secret"),
    Relation.WEBHOOK_DELIVERY: ("webhook_delivery.answer",),
}
# The walks that copy an index to another key, and what each goes over.
COPIES = {"blind_index": Relation.MESSAGE, "suppression_index": Relation.SUPPRESSION}


class Position(NamedTuple):
    """A row: the message or the domain it belongs to, or itself, and the id that its values are bound to."""

    """A row: the message or template it belongs to, or itself, and the id that its values are bound to."""

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


@dataclass(frozen=True, slots=True)
class WalkStanding:
    """A walk as an operator sees it; about this `share` of it is done, from 0 to 1."""

    tenant: str
    relation: str
    share: float
    counts: Counts
    begun_at: datetime
    finished_at: datetime | None


async def list_walks(db: Queries, finished_within: timedelta, limit: int) -> list[WalkStanding]:
    """Return the walks that are not finished, then those that were lately, the youngest first."""
    found = []
    for row in await db.fetch(SQL.list_walks, finished_within, limit):
        tenant_id, tenant, relation, at, moved, skipped, unreadable, begun_at, finished_at = row
        share = 1.0 if finished_at else await _measure_share(db, relation, tenant_id, at)
        counts = Counts(moved, skipped, unreadable)
        found.append(WalkStanding(tenant, relation, share, counts, begun_at, finished_at))
    return found


async def _measure_share(db: Queries, name: str, tenant_id: UUID, at: UUID) -> float:
    relation = COPIES.get(name) or Relation(name)
    row = await db.fetch_one(getattr(SQL, f"measure_{relation}"), tenant_id, at, MOST_MEASURED)
    assert row is not None  # it has no FROM
    behind, ahead = int(row["behind"]), int(row["ahead"])
    if behind < MOST_MEASURED and ahead < MOST_MEASURED:
        return behind / max(behind + ahead, 1)
    return share_between(row["first"], at, row["last"])


def share_between(first: UUID, at: UUID, last: UUID) -> float:
    """Return how far `at` is on the way from the first id to the last; 0 before the first, at most 1.

    Ids are UUIDv7, so this is a share of time and not of rows: a guess where mail came unevenly.
    """
    if at < first:
        return 0.0
    return min(1.0, (at.int - first.int) / max(last.int - first.int, 1))


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
