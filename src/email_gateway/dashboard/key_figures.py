"""What the database knows of secrets and keys, for the page about them: names, versions and counts, never a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from email_gateway.dashboard.figures import Shared
from email_gateway.fleet import Acknowledgement, acknowledgements
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, list_generations
from email_gateway.store.key_walks import WalkStanding, list_walks
from email_gateway.store.keys import StoredRoot
from email_gateway.store.secret_versions import CurrentVersion, list_current
from email_gateway.store.server import get_time
from email_gateway.vault.status import KeyStatus, read_key_status

# A finished walk is news for a day; a fleet of many tenants has more of them than a page should.
WALKS_FINISHED_WITHIN = timedelta(days=1)
MOST_WALKS = 40
# A process follows within a second or two; only one that has not after this long is worth a person's time.
FOLLOWS_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """Secrets and keys at one moment of the database's clock.

    `asked_ago` is when the fleet was last told to read its secrets. `current` is the version of each secret that the fleet knows as current; `instances` are the processes
    seen within half a minute, and what each holds.
    """

    at: datetime
    asked_ago: timedelta
    current: Mapping[str, CurrentVersion]
    instances: tuple[Acknowledgement, ...]
    keys: KeyStatus
    walks: tuple[WalkStanding, ...]

    @property
    def active_root(self) -> StoredRoot | None:
        return next((each.root for each in self.keys.roots if each.root.state == "active"), None)

    @property
    def has_just_changed(self) -> bool:
        """Tell whether something changed so lately that processes may still be on their way to it."""
        moments = [each.current_since for each in self.current.values()]
        if self.active_root and self.active_root.activated_at:
            moments.append(self.active_root.activated_at)
        return min([self.asked_ago, *(self.at - moment for moment in moments)]) < FOLLOWS_WITHIN

    def has_followed(self, instance: Acknowledgement) -> bool:
        """Tell whether this process holds the current secrets and the active root key."""
        return instance.acknowledged and not self.holds_another(instance) and self.has_active_root(instance)

    def holds_another(self, instance: Acknowledgement) -> tuple[str, ...]:
        """Return the names of the secrets of which this process holds another version than the current one."""
        return tuple(
            name
            for name, version_id in instance.versions.items()
            if name in self.current and self.current[name].version_id != version_id
        )

    def has_active_root(self, instance: Acknowledgement) -> bool:
        """Tell whether this process holds the root key that is active."""
        active = self.active_root
        return active is not None and instance.active_root == active.root_id.hex()


class KeyFigures(Shared[KeySnapshot]):
    """One snapshot for every page that asks at the same time: it counts data keys, of which there may be many."""

    def __init__(self) -> None:
        super().__init__(read_key_snapshot)


async def read_key_snapshot(db: Database) -> KeySnapshot:
    """Read what the page shows; it needs no root key."""
    generation = (await list_generations(db))[Subject.SECRETS]
    return KeySnapshot(
        asked_ago=generation.age,
        current=await list_current(db),
        instances=await acknowledgements(db, generation.value),
        keys=await read_key_status(db),
        walks=tuple(await list_walks(db, WALKS_FINISHED_WITHIN, MOST_WALKS)),
        at=await get_time(db),
    )
