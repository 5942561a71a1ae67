"""Deliveries in a real PostgreSQL: held once, fenced by tokens, rescued from the dead, conserved."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta

import pytest
from uuid_utils.compat import uuid7

from email_gateway.mail.deliveries import Claims, Phase, State
from email_gateway.store import deliveries
from email_gateway.store.database import Database, Record
from email_gateway.store.deliveries import MAX_CRASHES, Result
from email_gateway.store.messages import Acceptor, list_events
from tests.makers import SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def claim_one(db: Database) -> Claims:
    (claims,) = await deliveries.claim(db, limit=50, lease_for=LEASE)
    return claims


async def expire_leases(db: Database) -> None:
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second' WHERE state = 'sending'")


async def row_of(db: Database, message_id: uuid.UUID) -> Record:
    row = await db.fetch_one("SELECT * FROM delivery WHERE message_id = $1", message_id)
    assert row is not None
    return row


async def balance(db: Database) -> Record:
    row = await db.fetch_one("SELECT * FROM conservation")
    assert row is not None
    assert row["difference"] == 0
    return row


async def kinds(db: Database, tenant_id: uuid.UUID, message_id: uuid.UUID) -> list[str]:
    return [event.kind for event in await list_events(db, tenant_id, message_id)]


def results(claims: Claims, state: State, kind: str, delay: timedelta | None = None) -> Sequence[Result]:
    return [
        Result(claims, claim, state, kind, uuid7(), delay, "dot", "some_reason", 250, "2.0.0", SEALED)
        for claim in claims.each
    ]


async def test_claim_holds_the_deliveries_of_one_message_together(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, domains=("a.example", "b.example"))
    claims = await claim_one(db)
    assert claims.message_id == message_id
    assert [(claim.recipient, claim.domain, claim.attempt) for claim in claims.each] == [
        (0, "a.example", 1),
        (1, "b.example", 1),
    ]
    assert claims.sealed == SEALED
    assert not claims.is_expired


async def test_two_workers_never_hold_the_same_delivery(db: Database, tenant_id: uuid.UUID) -> None:
    for _ in range(60):
        await accept(db, tenant_id)
    taken = await asyncio.gather(*(deliveries.claim(db, limit=10, lease_for=LEASE) for _ in range(8)))
    held = [claims.message_id for batch in taken for claims in batch]
    assert len(held) == len(set(held)) == 60


async def test_a_large_content_does_not_come_with_its_claim(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, sealed_content=b"\xe1" + bytes(deliveries.INLINE_CONTENT_BYTES))
    assert (await claim_one(db)).sealed is None


async def test_a_finished_delivery_has_its_state_and_its_event(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    written = await deliveries.finish(db, results(await claim_one(db), State.DELIVERED, "delivered"))
    assert list(written.values()) == [State.DELIVERED]
    assert await kinds(db, tenant_id, message_id) == ["accepted", "sending", "delivered"]
    assert (await balance(db))["delivered"] == 1


async def test_a_late_result_is_an_event_and_never_a_state(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await expire_leases(db)
    await deliveries.rescue(db)
    quick = await claim_one(db)
    assert await deliveries.finish(db, results(slow, State.BOUNCED, "bounced")) == {}
    assert (await row_of(db, message_id))["claim_token"] == quick.each[0].token
    assert await kinds(db, tenant_id, message_id) == ["accepted", "sending", "rescued", "sending", "late"]


async def test_dot_pending_is_committed_only_for_claims_still_held(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await expire_leases(db)
    await deliveries.rescue(db)
    quick = await claim_one(db)
    held = await deliveries.commit_dot_pending(db, [slow.each[0], quick.each[0]], lease_for=LEASE)
    assert held == {quick.each[0].token}
    assert (await row_of(db, message_id))["phase"] == "dot_pending"


async def test_a_renewal_never_takes_dot_pending_back(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    claims = await claim_one(db)
    await deliveries.commit_dot_pending(db, claims.each, lease_for=LEASE)
    await deliveries.renew(db, claims.each, [Phase.RCPT_OK], lease_for=LEASE)
    assert (await row_of(db, message_id))["phase"] == "dot_pending"


async def test_a_renewal_never_waits_for_a_result_that_is_being_written(db: Database, tenant_id: uuid.UUID) -> None:
    # It would wait in another order than the writer: a deadlock, and a delivered mail unrecorded.
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    claims = await claim_one(db)
    async with db.transaction() as writer:
        await deliveries.finish(writer, results(claims, State.DELIVERED, "delivered")[1:])
        await deliveries.renew(db, claims.each, [Phase.RCPT_OK] * 2, lease_for=LEASE)
    rows = await db.fetch("SELECT state, phase FROM delivery ORDER BY recipient")
    assert [tuple(row) for row in rows] == [("sending", "rcpt_ok"), ("delivered", None)]


@pytest.mark.parametrize(
    ("phase", "on_doubt", "state", "reason", "events"),
    [
        (Phase.RCPT_OK, "resend", "queued", "worker_lost", ["rescued"]),
        (Phase.DOT_PENDING, "resend", "queued", "in_doubt", ["in_doubt"]),
        (Phase.DOT_PENDING, "hold", "dead", "in_doubt", ["dead", "in_doubt"]),
    ],
)
async def test_an_orphan_returns_to_the_queue_unless_its_doubt_is_held(
    db: Database, tenant_id: uuid.UUID, phase: Phase, on_doubt: str, state: str, reason: str, events: list[str]
) -> None:
    message_id = await accept(db, tenant_id, on_doubt=on_doubt)
    claims = await claim_one(db)
    if phase is Phase.DOT_PENDING:
        await deliveries.commit_dot_pending(db, claims.each, lease_for=LEASE)
    else:
        await deliveries.renew(db, claims.each, [phase], lease_for=LEASE)
    assert (await deliveries.rescue(db)).rescued == 0, "a lease that still runs is not touched"
    await expire_leases(db)
    assert (await deliveries.rescue(db)).in_doubt == (phase is Phase.DOT_PENDING)
    row = await row_of(db, message_id)
    assert (row["state"], row["reason"], row["doubts"]) == (state, reason, int(phase is Phase.DOT_PENDING))
    assert sorted((await kinds(db, tenant_id, message_id))[2:]) == events
    await balance(db)


async def test_a_delivery_that_outlives_too_many_workers_is_dead(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    for _ in range(MAX_CRASHES):
        await claim_one(db)
        await expire_leases(db)
        await deliveries.rescue(db)
    row = await row_of(db, message_id)
    assert (row["state"], row["reason"]) == ("dead", "worker_lost")
    assert (await kinds(db, tenant_id, message_id))[-1] == "dead"


@pytest.mark.parametrize(("dead_at_expiry", "state"), [(True, State.DEAD), (False, State.EXPIRED)])
async def test_a_delivery_that_cannot_be_tried_before_it_expires_ends(
    db: Database, tenant_id: uuid.UUID, dead_at_expiry: bool, state: State
) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(seconds=30), dead_at_expiry=dead_at_expiry)
    claims = await claim_one(db)
    written = await deliveries.finish(db, results(claims, State.QUEUED, "deferred", timedelta(minutes=1)))
    assert list(written.values()) == [state]
    assert (await kinds(db, tenant_id, message_id))[-1] == state


async def test_a_deferred_delivery_waits_its_delay(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    await deliveries.finish(db, results(await claim_one(db), State.QUEUED, "deferred", timedelta(minutes=1)))
    assert await deliveries.claim(db, limit=10, lease_for=LEASE) == []
    await db.execute("UPDATE delivery SET next_attempt_at = now()")
    assert (await claim_one(db)).each[0].attempt == 2
    assert (await row_of(db, message_id))["reason"] == "some_reason"


async def test_a_held_doubt_is_two_facts(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, on_doubt="hold")
    await deliveries.finish(db, results(await claim_one(db), State.DEAD, "in_doubt"))
    assert sorted((await kinds(db, tenant_id, message_id))[2:]) == ["dead", "in_doubt"]
    assert (await row_of(db, message_id))["doubts"] == 1


async def test_a_released_claim_is_due_at_once_and_uncounted(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await deliveries.release(db, (await claim_one(db)).each)
    assert (await claim_one(db)).each[0].attempt == 1


async def test_an_expired_message_is_claimed_as_expired(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, lifetime=timedelta(0))
    assert (await claim_one(db)).is_expired


async def test_the_books_balance_at_every_step(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example", "c.example"))
    assert (await balance(db))["queued"] == 3
    claims = await claim_one(db)
    assert (await balance(db))["sending"] == 3
    await deliveries.finish(db, results(claims, State.DELIVERED, "delivered")[:1])
    await deliveries.finish(db, results(claims, State.BOUNCED, "bounced")[1:2])
    row = await balance(db)
    assert (row["accepted"], row["delivered"], row["bounced"], row["sending"]) == (3, 1, 1, 1)
