"""What a process holds of request bodies: counted against their tenants, and a large one outside its own memory."""

import asyncio
import os
from collections import Counter
from uuid import UUID

from email_gateway.errors import Overloaded

# What one process holds of bodies, in all and of one tenant. Room is taken as bytes arrive: an
# announced length costs its sender nothing.
MAX_BODIES_IN_FLIGHT = 128 * 1024 * 1024
MAX_BODIES_OF_A_TENANT = 64 * 1024 * 1024
# A larger one goes to the process that prepares them.
LARGE_BODY_BYTES = 1024 * 1024
HAS_MEMORY_FILES = hasattr(os, "memfd_create")  # Linux; elsewhere large bodies are prepared in a thread


class BodyBudget:
    """How many bytes of request bodies this process holds at the moment, in all and for each tenant.

    `in_thread` lets one body at a time be decoded beside the event loop, `at_work` one large message
    be prepared, written or answered: that takes several times its size.
    """

    def __init__(self, limit: int = MAX_BODIES_IN_FLIGHT, share: int = MAX_BODIES_OF_A_TENANT) -> None:
        self._limit = limit
        self._share = share
        self._held: Counter[UUID | None] = Counter()
        self._total = 0
        self.in_thread = asyncio.Semaphore(1)
        self.at_work = asyncio.Semaphore(1)

    def take(self, tenant_id: UUID | None, size: int) -> None:
        """Count bytes in; raises Overloaded when they would be too many."""
        if self._held[tenant_id] + size > self._share:
            raise Overloaded("this process holds as many of your request bodies as it may: send fewer at a time")
        if self._total + size > self._limit:
            raise Overloaded("this process holds as many request bodies as it may: try again in a second")
        self._held[tenant_id] += size
        self._total += size

    def give_back(self, tenant_id: UUID | None, size: int) -> None:
        """Count bytes out."""
        self._held[tenant_id] -= size
        self._total -= size
        if not self._held[tenant_id]:
            del self._held[tenant_id]


class LargeBody:
    """A large body in a file that has no name and lies in memory (memfd_create(2)): another process can be given it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("body", os.MFD_CLOEXEC)
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def add(self, piece: bytes | bytearray) -> None:
        """Append what has arrived."""
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self.fd, rest) :]
        self.size += len(piece)

    def close(self) -> None:
        """Give its memory back, once nobody else has it open either."""
        os.close(self.fd)
