"""What the fleet knows of a route and its lanes: held, slowed, or (without a row) open."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from email_gateway.store.database import Queries
from email_gateway.store.instances import count_instances
from email_gateway.store.queries import load

SQL = load("pace")

# A process says every 10 s that it lives (`fleet`); one that is silent for longer shares nothing.
WORKER_LIVES_FOR = timedelta(seconds=25)


@dataclass(frozen=True, slots=True)
class Why:
    """The words of the server, or the failure, that a lane waits for. Nothing personal."""

    stage: str
    reason: str
    code: int | None = None
    enhanced: str | None = None


@dataclass(frozen=True, slots=True)
class Temper:
    """How a lane is dealt with. `rate` is in recipients a second for the fleet, as refused `slowed_for` seconds ago.

    What an operator holds has an `actor` and a `note` that says why, and `reason` is what replies said before.
    """

    lane: str
    state: str
    held_by: str | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: str | None
    since: datetime
    rate: float | None
    probes: int
    probe_at: datetime | None
    slowed_for: float | None
    is_probe_due: bool
    route: str
    actor: str | None = None
    note: str | None = None

    @property
    def is_held(self) -> bool:
        return self.state == "held"

    @property
    def is_held_by_hand(self) -> bool:
        return self.held_by == "operator"


async def list_tempers(db: Queries, route: str) -> list[Temper]:
    """Return every lane of the route that is not open; what an operator holds stands behind what replies say."""
    return [Temper(*row) for row in await db.fetch(SQL.list_pace, route)]


async def count_workers(db: Queries) -> int:
    """Return how many workers live, this one among them, and at least 1."""
    return max(1, await count_instances(db, "worker", WORKER_LIVES_FOR))


async def hold(db: Queries, route: str, lane: str, why: Why, *, probe_in: timedelta, is_probe: bool) -> None:
    """Let a lane wait until a probe `probe_in` from now; nothing when it is held and this was no probe."""
    await db.execute(SQL.hold, route, lane, why.stage, why.reason, why.code, why.enhanced, probe_in, is_probe)


async def lease_probe(db: Queries, route: str, lane: str, *, for_: timedelta) -> bool:
    """Take the one probe that is due for a held lane; False when another worker has it."""
    return await db.fetch_one(SQL.lease_probe, route, lane, for_) is not None


async def open_lane(db: Queries, route: str, lane: str) -> None:
    """End a hold by replies, since a probe went well."""
    await db.execute(SQL.open, route, lane)


async def slow(db: Queries, route: str, lane: str, why: Why, *, rate: float, unheard: timedelta) -> None:
    """Note the rate at which the server refused an attempt to which a refusal of the last `unheard` was news.

    Beside such a refusal it counts only where it speaks of a higher rate.
    """
    await db.execute(SQL.slow, route, lane, why.stage, why.reason, why.code, why.enhanced, rate, unheard)


async def rest(db: Queries, route: str, lane: str, *, at: timedelta) -> None:
    """Keep an unused rate where it was `at` this long after its refusal."""
    await db.execute(SQL.rest, route, lane, at)


async def forget(db: Queries, route: str, lane: str, *, after: timedelta) -> None:
    """Drop a rate that nothing has been refused at for this long."""
    await db.execute(SQL.forget, route, lane, after)
