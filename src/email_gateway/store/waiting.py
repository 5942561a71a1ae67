"""What waits: the queue by lane, destination and age, and what waits for a person, each with what to do.

Counts stop at a bound that is said with them: a queue may be large, and people look every few seconds.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from email_gateway.mail.advice import SUSPECTS, dead_advice, lane_advice, lane_name
from email_gateway.store.accounts import EndingKey, list_ending_api_keys
from email_gateway.store.database import Queries, Record
from email_gateway.store.pace import Temper
from email_gateway.store.queries import load

SQL = load("waiting")

MOST_LOOKED_AT = 200_000
MOST_GROUPS = 100
MOST_COUNTED = 10_000
# The upper bounds of the ages by which the queue is counted; what is older stands in one more column.
AGES = ("5min", "20min", "1h", "4h", "1d")


@dataclass(frozen=True, slots=True)
class Group:
    """Queued deliveries: how many, how many of each age, how many are tried again later, since when the oldest is here."""

    total: int
    by_age: tuple[int, ...]
    later: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queue. `is_partial` when more wait than were looked at: then every count is a lower bound.

    `suspects` have outlived a worker, `doubtful` were sent once without an answer; both are part of `queued`.
    """

    queued: Group
    sending: int
    suspects: int
    doubtful: int
    by_lane: tuple[tuple[str, Group], ...]
    by_destination: tuple[tuple[str, Group], ...]
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that waits for a person: what, since when, how many deliveries (None: see the queue), what to do.

    `kind` is `held`, `dead`, `suspects` or `ending`. A count of 10,000 means that or more.
    """

    kind: str
    what: str
    why: str
    count: int | None
    since: datetime | None
    to_do: str


async def read_waiting(db: Queries, *, most: int = MOST_LOOKED_AT) -> Waiting:
    """Count what waits, of at most `most` deliveries."""
    whole, *rows = await db.fetch(SQL.count_waiting, most, MOST_GROUPS)
    row = await db.fetch_one(SQL.count_sending)
    assert row is not None  # an aggregate returns one row
    return Waiting(
        queued=_group(whole),
        sending=row["sending"],
        suspects=whole["suspects"],
        doubtful=whole["doubtful"],
        by_lane=tuple((row["lane"], _group(row)) for row in rows if row["lane"] is not None),
        by_destination=tuple((row["domain"], _group(row)) for row in rows if row["domain"] is not None),
        is_partial=whole["total"] == most,
    )


async def list_concerns(db: Queries, lanes: Iterable[Temper]) -> list[Concern]:
    """Return what waits for a person: which of `lanes` are held, dead letters by reason, what outlived a worker, and
    API keys that end soon.
    """
    held = [_held(lane) for lane in lanes if lane.is_held]
    dead = [
        Concern(
            "dead", "dead letters", row["reason"] or "-", row["deliveries"], row["since"], dead_advice(row["reason"])
        )
        for row in await db.fetch(SQL.count_dead_reasons, MOST_COUNTED)
    ]
    row = await db.fetch_one(SQL.count_suspects, MOST_COUNTED)
    assert row is not None  # an aggregate returns one row
    lost = [Concern("suspects", "deliveries that lost a worker", "worker_lost", row["suspects"], None, SUSPECTS)]
    ending = [_ending(key) for key in await list_ending_api_keys(db)]
    return [*held, *dead, *(lost if row["suspects"] else []), *ending]


def why_held(lane: Temper) -> str:
    """Return why a lane is not open in a few words: an operator's, or the reason with the stage and the code."""
    if lane.is_held_by_hand:
        return f"{lane.actor or 'an operator'}: {lane.note or 'no reason given'}"
    said = " ".join(str(part) for part in (lane.code, lane.enhanced) if part is not None)
    return f"{lane.reason} at {lane.stage}" + (f" ({said})" if said else "")


def advice_for(lane: Temper) -> str:
    """Say what to do about a lane that is not open."""
    return lane_advice(lane.route, lane.lane, held_by=lane.held_by, reason=lane.reason)


def _held(lane: Temper) -> Concern:
    return Concern("held", lane_name(lane.route, lane.lane), why_held(lane), None, lane.since, advice_for(lane))


def _ending(key: EndingKey) -> Concern:
    why = f"it ends at {key.expires_at:%Y-%m-%d %H:%M} UTC, and no other was made in its place"
    to_do = (
        f"`email-gateway tenants keys rotate {shlex.quote(key.tenant)} {key.prefix}` makes another: give that to the"
        " application before then. Revoke it where nobody needs it."
    )
    return Concern("ending", f"API key {key.prefix} of {key.tenant}", why, None, None, to_do)


def _group(row: Record) -> Group:
    return Group(row["total"], tuple(row["by_age"]), row["later"], row["oldest_at"])
