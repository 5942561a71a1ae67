"""One walk over a tenant's sealed rows: read ahead, work in a thread, write and keep the place in one transaction."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from email_gateway.errors import Tampered
from email_gateway.store.database import Database, Queries
from email_gateway.store.key_walks import (
    Counts,
    Position,
    Relation,
    SealedPage,
    Walk,
    advance_walk,
    commit_lazily,
    page_rows,
)
from email_gateway.vault.data_keys import HEADER_BYTES, FieldKey
from email_gateway.vault.keyring import Keyring

Work = TypeVar("Work")

# Of one batch. Larger ones are slower: what passes through PostgreSQL's and our memory leaves the caches.
MAX_ROWS = 500
MAX_OCTETS = 2 * 1024 * 1024
# One batch travels while the one before is worked on by PostgreSQL.
WRITERS = 2


@dataclass(frozen=True, slots=True)
class Done(Generic[Work]):
    """What a thread made of a page: what is to be written, how many values that is, and which did not open."""

    work: Work
    values: int
    unreadable: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What is told after each batch: rows looked at, what came of their values, and ids of those that do not open."""

    rows: int
    counts: Counts
    unreadable: tuple[UUID, ...]


Progress = Callable[[Report], None]


class OldKeys:
    """Field keys for a thread, which cannot wait for one: those that a page names are loaded before."""

    def __init__(self, keyring: Keyring, tenant_id: UUID) -> None:
        self._keyring = keyring
        self._tenant_id = tenant_id
        self._keys: dict[bytes, FieldKey | None] = {}  # None opens nothing of this tenant's

    async def load(self, page: SealedPage) -> None:
        """Load every key that the page's values name; raises KeyUnavailable when one is out of reach."""
        named = {value[2:HEADER_BYTES] for column in page.values for value in column if value is not None}
        for key_id in named - self._keys.keys():
            try:
                key = await self._keyring.find_field_key(key_id)
            except Tampered:
                self._keys[key_id] = None
            else:
                self._keys[key_id] = key if key.tenant_id == self._tenant_id else None

    def open(self, field: str, row_ids: Sequence[UUID], column: Sequence[bytes | None]) -> list[bytes | None]:
        """Open one field of a page's rows; None stands where a value does not open. Any thread may call it."""
        opened: list[bytes | None] = [None] * len(column)
        for key_id in {value[2:HEADER_BYTES] for value in column if value is not None}:
            key = self._keys[key_id]
            if key is not None:
                for at, plaintext in enumerate(key.open_all(field, row_ids, column)):
                    if plaintext is not None:
                        opened[at] = plaintext
        return opened


class Pace:
    """Holds a walk to a number of values per second, on the average since its start; 0 lets it run."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began = time.monotonic()
        self._values = 0

    @property
    def rows(self) -> int:
        """Return how many rows a batch may have: at a slow pace about half a second's worth."""
        return min(MAX_ROWS, max(self._rate // 2, 1)) if self._rate else MAX_ROWS

    async def keep(self, values: int) -> None:
        """Wait until so many values more are due."""
        self._values += values
        if self._rate:
            await asyncio.sleep(max(0.0, self._began + self._values / self._rate - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Steps(Generic[Work]):
    """What a walk does: `prepare` in a thread; `write` in a transaction, returning how many values took it."""

    relation: Relation
    prepare: Callable[[SealedPage], Done[Work]]
    write: Callable[[Queries, Work], Awaitable[int]]


async def walk_on(
    db: Database, walk: Walk, old_keys: OldKeys, steps: Steps[Work], pace: Pace, progress: Progress
) -> Counts:
    """Walk from where the walk stands to the end; return what came of it, earlier runs of it included.

    Four batches are in hand at a time: one is read, one is worked on, two are written, and these
    commit in the order of their rows. Raises Conflict when another command is on the same walk.
    """
    reading = asyncio.create_task(_read(db, walk, steps, walk.at, pace))
    last: asyncio.Future[Walk] = asyncio.get_running_loop().create_future()
    last.set_result(walk)
    writing: deque[asyncio.Task[Walk]] = deque()
    try:
        while page := await reading:
            reading = asyncio.create_task(_read(db, walk, steps, page.end, pace))
            await old_keys.load(page)
            done = await asyncio.to_thread(steps.prepare, page)
            if len(writing) == WRITERS:
                await writing.popleft()
            last = asyncio.create_task(_write(db, steps, page, done, last, progress))
            writing.append(last)
            await pace.keep(done.values)
        walk = await last
        await advance_walk(db, walk, walk.at, Counts(), is_finished=True)
    finally:
        tasks = [reading, *writing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return walk.counts


async def _read(db: Database, walk: Walk, steps: Steps[Work], after: Position, pace: Pace) -> SealedPage | None:
    return await page_rows(db, steps.relation, walk.tenant_id, after, rows=pace.rows, octets=MAX_OCTETS)


async def _write(
    db: Database,
    steps: Steps[Work],
    page: SealedPage,
    done: Done[Work],
    before: asyncio.Future[Walk],
    progress: Progress,
) -> Walk:
    """Write what came of a page, and move the walk past it once the page before has been committed."""
    async with db.transaction() as transaction:
        await commit_lazily(transaction)
        moved = await steps.write(transaction, done.work) if done.values else 0
        counts = Counts(moved, done.values - moved, len(done.unreadable))
        walk = await advance_walk(transaction, await before, page.end, counts, is_finished=False)
    progress(Report(len(page), counts, done.unreadable))
    return walk
