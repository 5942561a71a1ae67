"""The overview's numbers, read no more often than the database can bear."""

import asyncio
import time
from dataclasses import dataclass

from email_gateway.mail.deliveries import State
from email_gateway.store.database import Database
from email_gateway.store.statistics import Minute, TenantCounts, list_counts, list_minutes

FRESH_SECONDS = 0.5
# Counting reads whole tables. However large they grow, it takes at most a twentieth of one connection.
REST_PER_WORK = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts of every tenant and the last sixty minutes, read one after the other."""

    tenants: tuple[TenantCounts, ...]
    minutes: tuple[Minute, ...]

    @property
    def accepted(self) -> int:
        return sum(tenant.accepted for tenant in self.tenants)

    @property
    def difference(self) -> int:
        """Sum what each tenant is off by, whichever way: one must not hide another."""
        return sum(abs(tenant.difference) for tenant in self.tenants)

    def count(self, state: State) -> int:
        return sum(tenant.by_state[state] for tenant in self.tenants)


class Figures:
    """One snapshot for every page that asks at the same time, kept longer the longer it took."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self._good_until = 0.0

    async def read(self, db: Database) -> Snapshot:
        """Return a recent snapshot, counting anew when the last one has had its time."""
        async with self._lock:
            if self._snapshot is None or time.monotonic() >= self._good_until:
                began_at = time.monotonic()
                self._snapshot = Snapshot(tuple(await list_counts(db)), tuple(await list_minutes(db)))
                ended_at = time.monotonic()
                self._good_until = ended_at + max(FRESH_SECONDS, REST_PER_WORK * (ended_at - began_at))
            return self._snapshot
