"""What the whole fleet looks like in a few figures, each read at a bounded cost: for metrics, every half minute."""

from dataclasses import dataclass
from datetime import timedelta

from email_gateway.store.database import Queries
from email_gateway.store.instances import StoredInstance, list_instances
from email_gateway.store.keys import StoredRoot, list_roots
from email_gateway.store.queries import load
from email_gateway.store.secret_versions import STAGED_FOR
from email_gateway.store.waiting import MOST_COUNTED

SQL = load("figures")

# Turns beyond this are not looked at: a step takes some ten microseconds.
MOST_TURNS = 2_000


@dataclass(frozen=True, slots=True)
class VersionAge:
    """A secret's current version, and how long ago the fleet first saw it as such."""

    version_id: str
    age: timedelta


@dataclass(frozen=True, slots=True)
class Figures:
    """The fleet at one moment.

    `dead_letters` are counted up to 10,000. `queue_age` is zero while nothing is due. `begun_rotations` holds,
    by secret, how long ago a rotation was begun that has not ended.
    """

    dead_letters: int
    queue_age: timedelta
    versions: dict[str, VersionAge]
    begun_rotations: dict[str, timedelta]
    roots: tuple[StoredRoot, ...]
    instances: tuple[StoredInstance, ...]


async def read_figures(db: Queries, live_for: timedelta) -> Figures:
    """Read them all; `instances` are those seen within `live_for`. Raises DatabaseUnavailable."""
    dead = await db.fetch_one(SQL.count_dead, MOST_COUNTED)
    oldest = await db.fetch_one(SQL.find_oldest_due, MOST_TURNS)
    assert dead is not None and oldest is not None  # noqa: PT018  # aggregates return one row
    return Figures(
        dead_letters=dead["dead"],
        queue_age=oldest["waited"] or timedelta(),
        versions={
            row["name"]: VersionAge(row["version_id"], row["age"]) for row in await db.fetch(SQL.list_version_ages)
        },
        begun_rotations={row["name"]: row["begun_for"] for row in await db.fetch(SQL.list_begun_rotations, STAGED_FOR)},
        roots=tuple(await list_roots(db)),
        instances=tuple(await list_instances(db, live_for)),
    )
