"""What pages read of the whole database, no more often than it can bear; and the overview's numbers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from email_gateway.mail.deliveries import State
from email_gateway.store.database import Database
from email_gateway.store.holds import list_lanes
from email_gateway.store.statistics import Minute, TenantCounts, list_counts, list_minutes
from email_gateway.store.waiting import Concern, list_concerns

Read = TypeVar("Read")

FRESH_SECONDS = 0.5
# Counting reads whole tables. However large they grow, it takes at most a twentieth of one connection.
REST_PER_WORK = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts of every tenant, the last sixty minutes and what waits for a person, read one after the other."""

    tenants: tuple[TenantCounts, ...]
    minutes: tuple[Minute, ...]
    concerns: tuple[Concern, ...]

    @property
    def accepted(self) -> int:
        return sum(tenant.accepted for tenant in self.tenants)

    @property
    def difference(self) -> int:
        """Sum what each tenant is off by, whichever way: one must not hide another."""
        return sum(abs(tenant.difference) for tenant in self.tenants)

    def count(self, state: State) -> int:
        return sum(tenant.by_state[state] for tenant in self.tenants)


class Shared(Generic[Read]):
    """One reading for every page that asks at the same time, kept longer the longer it took."""

    def __init__(self, read: Callable[[Database], Awaitable[Read]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._last: Read | None = None
        self._good_until = 0.0

    async def read(self, db: Database) -> Read:
        """Return a recent reading, made anew when the last one has had its time."""
        async with self._lock:
            if self._last is None or time.monotonic() >= self._good_until:
                began_at = time.monotonic()
                self._last = await self._read(db)
                ended_at = time.monotonic()
                self._good_until = ended_at + max(FRESH_SECONDS, REST_PER_WORK * (ended_at - began_at))
            return self._last


class Figures(Shared[Snapshot]):
    """The overview's snapshot."""

    def __init__(self) -> None:
        super().__init__(read_snapshot)


async def read_snapshot(db: Database) -> Snapshot:
    """Count what the overview shows."""
    return Snapshot(
        tuple(await list_counts(db)),
        tuple(await list_minutes(db)),
        tuple(await list_concerns(db, await list_lanes(db))),
    )
