"""Deliveries as workers move them: claimed, renewed, finished, rescued; every write fenced by a token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from uuid import UUID

from email_gateway.mail.deliveries import SIMULATOR_DOMAIN, Claim, Claims, Phase, State
from email_gateway.store.database import Queries, Record
from email_gateway.store.queries import load

SQL = load("deliveries")

# A content up to this size comes with its claim; a larger one is read when its turn comes, so that
# a batch of claims stays small whatever it claims.
INLINE_CONTENT_BYTES = 64 * 1024
# What was looked up when a message was accepted holds for so long.
FRESH = timedelta(seconds=2)
MAX_CRASHES = 4  # the first in a crowd, the others alone
RESCUE_BATCH = 500
EXPIRE_BATCH = 500
# A living worker writes what it heard of a claim that it lost within this time, or never.
LAST_WORD_WITHIN = timedelta(minutes=5)
FIRST_TENANT = UUID(int=0)
MAX_LANES = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, as it is written: the new state, and the event that says why.

    `state` is queued with a `delay` when another attempt is due, without one when the attempt does not
    count and the delivery keeps its place; the store turns both into `claims.at_expiry` when the
    message expires first. `event_id` is bound into `sealed_reply`.
    """

    claims: Claims
    claim: Claim
    state: State
    kind: str
    event_id: UUID
    delay: timedelta | None
    stage: str
    reason: str
    code: int | None
    enhanced: str | None
    sealed_reply: bytes | None


@dataclass(frozen=True, slots=True)
class Rescued:
    """How many deliveries were taken from dead workers; of those, how many were in doubt, died, or died of doubts."""

    rescued: int
    in_doubt: int
    dead: int
    doubts_held: int


@dataclass(frozen=True, slots=True)
class Turns:
    """Which deliveries to take: up to a quota from each lane, tenants in turn from `after` on.

    Mail for one of `destinations`, or of one of `senders` (lanes, as `sender_lane` names them), is not
    taken from another lane than its own, but moved there.
    """

    quotas: Mapping[str, int]
    after: UUID = FIRST_TENANT
    destinations: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim found: deliveries by message, and the lanes that others were moved to."""

    claims: list[Claims]
    diverted: tuple[str, ...]


async def claim(db: Queries, turns: Turns, *, lease_for: timedelta) -> Taken:
    """Take due deliveries for this worker in turn, those of one message together, and those for the simulator apart.

    Two workers never hold the same delivery. A claim that is not renewed within `lease_for`
    returns to the queue, so a crash delays mail and never loses it.
    """
    rows = await db.fetch(
        SQL.claim,
        list(turns.quotas),
        list(turns.quotas.values()),
        turns.after,
        list(turns.destinations),
        list(turns.senders),
        lease_for,
        INLINE_CONTENT_BYTES,
        FRESH,
    )
    diverted = tuple(rows[0]["diverted"] or ())
    if rows[0]["message_id"] is None:
        return Taken([], diverted)
    return Taken([_claims(list(group)) for _, group in groupby(rows, key=_held_together)], diverted)


async def list_lanes(db: Queries) -> list[str]:
    """Return the lanes in which deliveries are queued, the common one first; at most 1,000."""
    return [row["lane"] for row in await db.fetch(SQL.list_lanes, MAX_LANES)]


async def commit_phases(
    db: Queries, held: Sequence[Claim], phases: Sequence[Phase], *, lease_for: timedelta
) -> set[UUID]:
    """Commit how far each attempt came; return the tokens that are still held, for three quarters of a lease at least."""
    rows = await db.fetch(SQL.commit_phases, *_keys(held), list(phases), lease_for)
    return {row["claim_token"] for row in rows}


async def renew(db: Queries, held: Sequence[Claim], phases: Sequence[Phase], *, lease_for: timedelta) -> None:
    """Begin the lease of each claim anew, where it is still held, and note how far its attempt came."""
    await db.execute(SQL.renew, *_keys(held), list(phases), lease_for, list(Phase))


async def finish(db: Queries, results: Sequence[Result], *, max_doubts: int) -> dict[UUID, State | None]:
    """Write results and their events in one transaction; return event_id to state for those that counted.

    The state is None for a result that had been written before: writing again is safe. A delivery
    that was in doubt `max_doubts` times is dead with the next doubt.
    """
    claims = [result.claim for result in results]
    rows = await db.fetch(
        SQL.finish,
        *_keys(claims),
        [result.state for result in results],
        [result.delay for result in results],
        [result.claims.expires_at for result in results],
        [result.claims.at_expiry for result in results],
        [claim.attempt for claim in claims],
        [result.event_id for result in results],
        [result.kind for result in results],
        [result.stage for result in results],
        [result.reason for result in results],
        [result.code for result in results],
        [result.enhanced for result in results],
        [result.sealed_reply for result in results],
        max_doubts,
    )
    return {row["event_id"]: State(row["state"]) if row["state"] else None for row in rows}


async def release(db: Queries, held: Sequence[Claim], *, reason: str) -> None:
    """Give claims back to their places, untouched and uncounted; `reason` stands in the event."""
    await db.execute(SQL.release, *_keys(held), reason)


async def rescue(db: Queries, *, max_doubts: int, lease_for: timedelta) -> Rescued:
    """Return up to 500 deliveries whose lease ran out to their places, or settle their doubt by policy.

    Does nothing until somebody has called it at least every half `lease_for` during one: before that the
    database may have been away, and leases say nothing about who lives.
    """
    row = await db.fetch_one(SQL.rescue, MAX_CRASHES, RESCUE_BATCH, max_doubts, lease_for)
    assert row is not None  # an aggregate returns one row
    return Rescued(row["rescued"], row["in_doubt"], row["dead"], row["doubts_held"])


async def expire(db: Queries) -> int:
    """End what waits and whose time has run out; return how many, 500 at a time."""
    ended, seen = 0, EXPIRE_BATCH
    while seen == EXPIRE_BATCH:
        row = await db.fetch_one(SQL.expire, EXPIRE_BATCH, LAST_WORD_WITHIN)
        assert row is not None  # an aggregate returns one row
        ended, seen = ended + row["ended"], row["seen"]
    return ended


def _keys(held: Sequence[Claim]) -> tuple[list[UUID], list[UUID], list[int], list[UUID]]:
    return (
        [claim.tenant_id for claim in held],
        [claim.message_id for claim in held],
        [claim.recipient for claim in held],
        [claim.token for claim in held],
    )


def _held_together(row: Record) -> tuple[UUID, bool]:
    return row["message_id"], row["domain"] == SIMULATOR_DOMAIN


def _claims(rows: list[Record]) -> Claims:
    first = rows[0]
    return Claims(
        tenant_id=first["tenant_id"],
        message_id=first["message_id"],
        created_at=first["created_at"],
        expires_at=first["expires_at"],
        on_doubt=first["on_doubt"],
        sealed=first["sealed"],
        attachment_count=first["attachment_count"],
        each=tuple(
            Claim(*row[:6])  # the key, the domain, the token and the attempt lead the row
            for row in rows
        ),
        at_expiry=State.DEAD if first["dead_at_expiry"] else State.EXPIRED,
        is_expired=first["is_expired"],
        is_fresh=first["is_fresh"],
        sender_domain=first["sender_domain"],
        lane=first["lane"],
    )
