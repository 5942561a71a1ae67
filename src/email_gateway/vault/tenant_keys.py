"""The keys under which one tenant's values are written now, and the requests that are at it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from email_gateway.vault.data_keys import FieldKey, IndexKey

IDEMPOTENCY_KEY = "idempotency.key"


class Uses:
    """How many requests are under way; entered and left by each of them, on the event loop."""

    __slots__ = ("_count", "_ended")

    def __init__(self) -> None:
        self._count = 0
        self._ended: asyncio.Event | None = None

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0 and self._ended is not None:
            self._ended.set()

    @property
    def are_over(self) -> bool:
        return self._count == 0

    async def wait(self) -> None:
        """Return once nothing is under way."""
        self._ended = self._ended or asyncio.Event()
        while self._count:
            self._ended.clear()
            await self._ended.wait()


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant's keys in use. Its methods are quick, wait for nothing and may run in any thread.

    While an index key changes there are two: `index_key` is the one that is searched, and `beside`
    is written with it. Whoever makes blind indexes stays within `uses` until they are committed, so
    that a process can tell when none is written under older keys any more.
    """

    tenant_id: UUID
    field_key: FieldKey
    index_key: IndexKey
    beside: tuple[IndexKey, ...] = ()
    uses: Uses = field(default_factory=Uses, repr=False, compare=False)

    @property
    def index_key_id(self) -> bytes:
        """The id that stands beside each blind index that is searched."""
        return self.index_key.key_id

    @property
    def index_keys(self) -> tuple[IndexKey, ...]:
        """Every index key that is written, the one that is searched first."""
        return (self.index_key, *self.beside)

    @property
    def key_ids(self) -> bytes:
        """The ids of all keys in one value, in the order of purpose and state in which they are listed."""
        return self.field_key.key_id + b"".join(key.key_id for key in self.index_keys)

    def seal(self, field: str, row_id: UUID, plaintext: bytes) -> bytes:
        """Seal a value for one field of one row; it is 58 bytes longer than the plaintext."""
        return self.field_key.seal(field, row_id, plaintext)

    def blind(self, field: str, kind: int, canonical: bytes) -> bytes:
        """Return the 16-byte blind index of a value in its canonical form, to search for it."""
        return self.index_key.blind(field, kind, canonical)

    def blind_each(self, terms: Iterable[tuple[str, int, bytes]]) -> tuple[tuple[bytes, str, bytes], ...]:
        """Return (index key id, field, blind value) of each (field, kind, canonical form), under every index key."""
        if not self.beside:
            key = self.index_key
            return tuple((key.key_id, field, key.blind(field, kind, canonical)) for field, kind, canonical in terms)
        return tuple(
            (key.key_id, field, key.blind(field, kind, canonical))
            for field, kind, canonical in terms
            for key in self.index_keys
        )

    def fingerprint(self, body: bytes | bytearray) -> bytes:
        """Return 32 bytes that are equal for equal request bodies of this tenant."""
        return self.index_key.fingerprint(body)

    def idempotency_keys(self, key: bytes, body: bytes | bytearray) -> tuple[tuple[bytes, bytes], ...]:
        """Return the HMACs of an Idempotency-Key and of the body that it came with, under every index key."""
        return tuple((each.blind(IDEMPOTENCY_KEY, 0, key), each.fingerprint(body)) for each in self.index_keys)
