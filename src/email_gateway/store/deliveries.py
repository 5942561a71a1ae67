"""Deliveries as workers move them: claimed, renewed, finished, rescued; every write fenced by a token."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from uuid import UUID

from email_gateway.mail.deliveries import Claim, Claims, Phase, State
from email_gateway.store.database import Queries, Record
from email_gateway.store.queries import load

SQL = load("deliveries")

# A content up to this size comes with its claim; a larger one is read when its turn comes, so that
# a batch of claims stays small whatever it claims.
INLINE_CONTENT_BYTES = 64 * 1024
MAX_CRASHES = 5
RESCUE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, as it is written: the new state, and the event that says why.

    `state` is queued with a `delay` when another attempt is due; the store turns that into
    `claims.at_expiry` when the message expires first. `event_id` is bound into `sealed_reply`.
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
    """How many deliveries were taken from dead workers, and how many of those were in doubt or died."""

    rescued: int
    in_doubt: int
    dead: int


async def claim(db: Queries, *, limit: int, lease_for: timedelta) -> list[Claims]:
    """Take up to `limit` due deliveries for this worker, those of one message together.

    Two workers never hold the same delivery. A claim that is not renewed within `lease_for`
    returns to the queue, so a crash delays mail and never loses it.
    """
    rows = await db.fetch(SQL.claim, limit, lease_for, INLINE_CONTENT_BYTES)
    return [_claims(list(group)) for _, group in groupby(rows, key=lambda row: row["message_id"])]


async def commit_dot_pending(db: Queries, held: Sequence[Claim], *, lease_for: timedelta) -> set[UUID]:
    """Commit that the final dot comes next, and renew; return the tokens that are still held."""
    rows = await db.fetch(SQL.commit_dot_pending, *_keys(held), lease_for)
    return {row["claim_token"] for row in rows}


async def renew(db: Queries, held: Sequence[Claim], phases: Sequence[Phase], *, lease_for: timedelta) -> None:
    """Begin the lease of each claim anew, where it is still held, and note how far its attempt came."""
    await db.execute(SQL.renew, *_keys(held), list(phases), lease_for)


async def finish(db: Queries, results: Sequence[Result]) -> dict[UUID, State]:
    """Write results and their events in one transaction; return event_id to state for those not late."""
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
    )
    return {row["event_id"]: State(row["state"]) for row in rows}


async def release(db: Queries, held: Sequence[Claim]) -> None:
    """Give claims back to the queue, untouched and uncounted."""
    await db.execute(SQL.release, *_keys(held))


async def rescue(db: Queries) -> Rescued:
    """Return the deliveries whose lease ran out to the queue, or settle their doubt by policy."""
    row = await db.fetch_one(SQL.rescue, MAX_CRASHES, RESCUE_BATCH)
    assert row is not None  # an aggregate returns one row
    return Rescued(row["rescued"], row["in_doubt"], row["dead"])


def _keys(held: Sequence[Claim]) -> tuple[list[UUID], list[UUID], list[int], list[UUID]]:
    return (
        [claim.tenant_id for claim in held],
        [claim.message_id for claim in held],
        [claim.recipient for claim in held],
        [claim.token for claim in held],
    )


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
    )
