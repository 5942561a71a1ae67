"""What a process keeps in memory about senders' domains, until a domain or a key changes anywhere."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar
from uuid import UUID

from email_gateway.flights import Flights
from email_gateway.store.database import Queries
from email_gateway.store.domains import get_generation

Fact = TypeVar("Fact")

LOOK_EVERY_SECONDS = 1.0
MAX_KNOWN = 10_000


class DomainFacts(Generic[Fact]):
    """One fact of each tenant's domain, found when it is first asked for; a change elsewhere counts within a second.

    Whether there was a change is asked once a second, by whoever comes then: a process that sends nothing asks nothing.
    """

    def __init__(self, db: Queries, find: Callable[[UUID, str], Coroutine[Any, Any, Fact]]) -> None:
        self._db = db
        self._find = find
        self._known: dict[tuple[UUID, str], Fact] = {}
        self._generation = -1
        self._fresh_until = 0.0
        self._looks = Flights[None, None]()
        self._loads = Flights[tuple[int, UUID, str], Fact]()

    async def get(self, tenant_id: UUID, sender_domain: str) -> Fact:
        """Return the fact, as it was at most a second ago; raises what `find` raises, and DatabaseUnavailable."""
        if time.monotonic() >= self._fresh_until:
            await self._looks.join(None, self._look)
        known, name = self._known, (tenant_id, sender_domain)
        if name not in known:
            # Of this generation: a load that began before a change must not answer whoever asks after it.
            fact = await self._loads.join((self._generation, *name), lambda: self._find(*name))
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[name] = fact
            return fact
        return known[name]

    async def _look(self) -> None:
        began = time.monotonic()
        generation = await get_generation(self._db)
        if generation != self._generation:
            self._known, self._generation = {}, generation
        self._fresh_until = began + LOOK_EVERY_SECONDS
