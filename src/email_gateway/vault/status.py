"""What an operator may know of the keys: names, states, versions and counts. It needs no root key."""

from dataclasses import dataclass
from datetime import timedelta

from email_gateway.store import keys as store
from email_gateway.store.data_keys import IndexRotationRow, list_index_rotations
from email_gateway.store.database import Queries
from email_gateway.store.instances import StoredInstance, list_instances

# A live process writes its row far more often than this; a root waits this long for those it cannot see.
LIVE_INSTANCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RootStatus:
    """One root key, and how many of the data keys it can open."""

    root: store.StoredRoot
    wraps: int


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The vault as it stands: roots oldest first, data keys by (purpose, state), processes seen lately.

    A root may go only when every key that is not destroyed has a wrap under another one: compare
    its `wraps` with `live_keys`.
    """

    roots: tuple[RootStatus, ...]
    keys: dict[tuple[int, str], int]
    instances: tuple[StoredInstance, ...]
    index_rotations: tuple[IndexRotationRow, ...] = ()

    @property
    def live_keys(self) -> int:
        return sum(count for (_, state), count in self.keys.items() if state != "destroyed")


async def read_key_status(db: Queries) -> KeyStatus:
    """Count what the vault's tables hold."""
    wraps = await store.count_wraps(db)
    return KeyStatus(
        roots=tuple(RootStatus(root, wraps.get(root.root_id, 0)) for root in await store.list_roots(db)),
        keys=await store.count_keys(db),
        instances=tuple(await list_instances(db, LIVE_INSTANCE)),
        index_rotations=tuple(await list_index_rotations(db)),
    )
