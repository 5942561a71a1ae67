"""The root keys in this process's memory: never dropped, and fetched by VersionId when one is missing."""

import time
from collections.abc import Iterable

from email_gateway.errors import KeyUnavailable, SecretUnavailable, Tampered
from email_gateway.flights import Flights
from email_gateway.observe import get_logger
from email_gateway.store import keys as store
from email_gateway.store.database import Queries
from email_gateway.vault.root_source import RootSource, Versions
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import open_canary

log = get_logger(__name__)

# Between two attempts to fetch one root: a burst of reads must not become a burst of requests to AWS.
RETRY_AFTER_SECONDS = 1.0


class HeldRoots:
    """Root keys by their ids. What was loaded once stays, whatever becomes of its secrets (contract C5)."""

    def __init__(self, source: RootSource, roots: Iterable[RootKey] = ()) -> None:
        self.source = source
        self._roots = {root.root_id: root for root in roots}
        self._flights = Flights[bytes, RootKey]()
        self._failed_at: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"HeldRoots({', '.join(root_id.hex()[:8] for root_id in self._roots)})"

    def __contains__(self, root_id: bytes) -> bool:
        return root_id in self._roots

    @property
    def ids(self) -> list[bytes]:
        return list(self._roots)

    @property
    def by_id(self) -> dict[bytes, RootKey]:
        """Return a copy that another thread may read."""
        return dict(self._roots)

    def hold(self, root: RootKey) -> RootKey:
        """Keep a root from now on, and return the one object that stands for it."""
        return self._roots.setdefault(root.root_id, root)

    async def obtain(self, stored: store.StoredRoot) -> RootKey:
        """Return a root that the database knows, fetching it by the VersionIds recorded there.

        Raises KeyUnavailable when they cannot be read or make another root, Tampered when its
        canary does not open. One flight at a time, and a failed one is not repeated for seconds.
        """
        if (held := self._roots.get(stored.root_id)) is not None:
            return held
        if time.monotonic() < self._failed_at.get(stored.root_id, 0.0) + RETRY_AFTER_SECONDS:
            raise KeyUnavailable(f"root key {stored.root_id.hex()} could not be fetched a moment ago")
        return await self._flights.join(stored.root_id, lambda: self._fetch(stored))

    async def obtain_for(self, db: Queries, key_id: bytes) -> None:
        """Hold a root that opens this data key; raises KeyUnavailable when none is in reach."""
        stored = await store.list_roots_of_key(db, key_id)
        for root in stored:
            try:
                await self.obtain(root)
            except (KeyUnavailable, Tampered):
                continue  # another root may open it
            return
        known = "; ".join(f"{root.root_id.hex()} {root.state}" for root in stored) or "none"
        raise KeyUnavailable(f"no root key in reach opens data key {key_id.hex()} (its roots: {known})")

    async def _fetch(self, stored: store.StoredRoot) -> RootKey:
        versions = Versions(stored.key_version_id, stored.salt_version_id)
        try:
            root = await self.source.fetch(stored.root_id, versions)
            open_canary(root, stored.canary)
        except (KeyUnavailable, SecretUnavailable, Tampered) as error:
            self._failed_at[stored.root_id] = time.monotonic()
            log.warning("root_not_fetched", root_id=stored.root_id.hex(), error=error)
            if isinstance(error, SecretUnavailable):
                raise KeyUnavailable(f"root key {stored.root_id.hex()} cannot be fetched: {error}") from None
            raise
        self._failed_at.pop(stored.root_id, None)
        log.info("root_fetched", root_id=stored.root_id.hex())
        return self.hold(root)
