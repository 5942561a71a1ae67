"""Deliveries in a real PostgreSQL: held once, fenced by tokens, rescued from the dead, conserved."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from email_gateway.mail.deliveries import (
    COMMON_LANE,
    SUSPECT_LANE,
    Claims,
    Phase,
    State,
    destination_lane,
    sender_lane,
)
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.deliveries import Rescued, Result, Turns
from email_gateway.store.messages import list_events
from tests.makers import SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def take(db: Database, limit: int = 50, lane: str = COMMON_LANE, **turns: Any) -> list[Claims]:
    return (await deliveries.claim(db, Turns({lane: limit}, **turns), lease_for=LEASE)).claims


async def claim_one(db: Database, lane: str = COMMON_LANE) -> Claims:
    (claims,) = await take(db, lane=lane)
    return claims


async def finish(db: Queries, written: Sequence[Result]) -> dict[uuid.UUID, State | None]:
    return await deliveries.finish(db, written, max_doubts=2)


async def rescue(db: Database) -> Rescued:
    return await deliveries.rescue(db, max_doubts=2, lease_for=timedelta(0))


async def add_tenant(db: Database) -> uuid.UUID:
    tenant = uuid.uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, $2)", tenant, str(tenant))
    return tenant


async def expire_leases(db: Database) -> None:
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second' WHERE state = 'sending'")


async def lose(db: Database, claims: Claims, phase: Phase) -> None:
    """The worker that holds these dies in this phase, and another takes them back."""
    await deliveries.commit_phases(db, claims.each, [phase] * len(claims), lease_for=LEASE)
    await expire_leases(db)
    await rescue(db)


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
    taken = await asyncio.gather(*(take(db, 10) for _ in range(8)))
    held = [claims.message_id for batch in taken for claims in batch]
    assert len(held) == len(set(held)) == 60


async def test_a_large_content_does_not_come_with_its_claim(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, sealed_content=b"\xe1" + bytes(deliveries.INLINE_CONTENT_BYTES))
    assert (await claim_one(db)).sealed is None


async def test_a_finished_delivery_has_its_state_and_its_event(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    written = await finish(db, results(await claim_one(db), State.DELIVERED, "delivered"))
    assert list(written.values()) == [State.DELIVERED]
    assert await kinds(db, tenant_id, message_id) == ["accepted", "sending", "delivered"]
    assert (await balance(db))["delivered"] == 1


async def test_a_late_result_is_an_event_and_never_a_state(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await expire_leases(db)
    await rescue(db)
    quick = await claim_one(db, SUSPECT_LANE)
    assert await finish(db, results(slow, State.BOUNCED, "bounced")) == {}
    assert (await row_of(db, message_id))["claim_token"] == quick.each[0].token
    assert await kinds(db, tenant_id, message_id) == ["accepted", "sending", "rescued", "sending", "late"]


async def test_dot_pending_is_committed_only_for_claims_still_held(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await expire_leases(db)
    await rescue(db)
    quick = await claim_one(db, SUSPECT_LANE)
    held = await deliveries.commit_phases(db, [slow.each[0], quick.each[0]], [Phase.DOT_PENDING] * 2, lease_for=LEASE)
    assert held == {quick.each[0].token}
    assert (await row_of(db, message_id))["phase"] == "dot_pending"


async def test_a_renewal_never_takes_dot_pending_back(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    claims = await claim_one(db)
    await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING] * len(claims), lease_for=LEASE)
    await deliveries.renew(db, claims.each, [Phase.RCPT_OK], lease_for=LEASE)
    assert (await row_of(db, message_id))["phase"] == "dot_pending"


async def test_a_renewal_never_waits_for_a_result_that_is_being_written(db: Database, tenant_id: uuid.UUID) -> None:
    # It would wait in another order than the writer: a deadlock, and a delivered mail unrecorded.
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    claims = await claim_one(db)
    async with db.transaction() as writer:
        await finish(writer, results(claims, State.DELIVERED, "delivered")[1:])
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
        await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING] * len(claims), lease_for=LEASE)
    else:
        await deliveries.renew(db, claims.each, [phase], lease_for=LEASE)
    assert (await rescue(db)).rescued == 0, "a lease that still runs is not touched"
    await expire_leases(db)
    assert (await rescue(db)).in_doubt == (phase is Phase.DOT_PENDING)
    row = await row_of(db, message_id)
    assert (row["state"], row["reason"], row["doubts"]) == (state, reason, int(phase is Phase.DOT_PENDING))
    assert sorted((await kinds(db, tenant_id, message_id))[2:]) == events
    await balance(db)


async def test_suspects_of_a_destination_that_must_wait_stay_suspects_and_hide_no_others(
    db: Database, tenant_id: uuid.UUID
) -> None:
    for domain in ("waits.example", "waits.example", "flows.example"):
        await accept(db, tenant_id, domains=(domain,))
    for claims in await take(db):
        await lose(db, claims, Phase.CLAIMED)
    (claims,) = await take(db, 1, SUSPECT_LANE, destinations=frozenset({"waits.example"}))
    assert claims.each[0].domain == "flows.example"
    assert [row["lane"] for row in await db.fetch("SELECT lane FROM delivery WHERE state = 'queued'")] == [
        SUSPECT_LANE
    ] * 2


@pytest.mark.parametrize(("dead_at_expiry", "state"), [(True, State.DEAD), (False, State.EXPIRED)])
async def test_a_delivery_that_cannot_be_tried_before_it_expires_ends(
    db: Database, tenant_id: uuid.UUID, dead_at_expiry: bool, state: State
) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(seconds=30), dead_at_expiry=dead_at_expiry)
    claims = await claim_one(db)
    written = await finish(db, results(claims, State.QUEUED, "deferred", timedelta(minutes=1)))
    assert list(written.values()) == [state]
    assert (await kinds(db, tenant_id, message_id))[-1] == state


async def test_a_deferred_delivery_waits_its_delay(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    await finish(db, results(await claim_one(db), State.QUEUED, "deferred", timedelta(minutes=1)))
    assert await take(db, 10) == []
    await db.execute("UPDATE delivery SET next_attempt_at = now()")
    assert (await claim_one(db)).each[0].attempt == 2
    assert (await row_of(db, message_id))["reason"] == "some_reason"


async def test_a_held_doubt_is_two_facts(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, on_doubt="hold")
    await finish(db, results(await claim_one(db), State.DEAD, "in_doubt"))
    assert sorted((await kinds(db, tenant_id, message_id))[2:]) == ["dead", "in_doubt"]
    assert (await row_of(db, message_id))["doubts"] == 1


async def test_a_released_claim_keeps_its_place_and_is_uncounted(db: Database, tenant_id: uuid.UUID) -> None:
    first = await accept(db, tenant_id)
    await accept(db, tenant_id)
    (claims,) = await take(db, 1)
    await deliveries.release(db, claims.each, reason="worker_stopped")
    (again,) = await take(db, 1)
    assert (again.message_id, again.each[0].attempt) == (first, 1)
    assert await kinds(db, tenant_id, first) == ["accepted", "sending", "held", "sending"]


async def test_an_attempt_that_does_not_count_keeps_the_delivery_in_its_place(
    db: Database, tenant_id: uuid.UUID
) -> None:
    first = await accept(db, tenant_id)
    await accept(db, tenant_id)
    (claims,) = await take(db, 1)
    await finish(db, results(claims, State.QUEUED, "held"))
    (again,) = await take(db, 1)
    assert (again.message_id, again.each[0].attempt) == (first, 1)


async def test_an_orphan_keeps_its_place(db: Database, tenant_id: uuid.UUID) -> None:
    first = await accept(db, tenant_id)
    place = (await row_of(db, first))["next_attempt_at"]
    claims = await claim_one(db)
    await deliveries.renew(db, claims.each, [Phase.CONNECTED], lease_for=LEASE)
    await expire_leases(db)
    await rescue(db)
    row = await row_of(db, first)
    assert (row["next_attempt_at"], row["lane"], row["crashes"]) == (place, COMMON_LANE, 0)


async def test_what_was_lost_before_it_was_composed_is_a_suspect(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, domains=("a.example", "b.example"))
    await lose(db, await claim_one(db), Phase.CLAIMED)
    assert await take(db) == []
    (claims,) = await take(db, 1, SUSPECT_LANE)
    assert (claims.message_id, len(claims)) == (message_id, 2), "with all its recipients"
    await finish(db, results(claims, State.QUEUED, "deferred", timedelta(0)))
    assert (await claim_one(db)).message_id == message_id, "acquitted once an attempt has ended"


async def test_tenants_are_served_in_turn(db: Database, tenant_id: uuid.UUID) -> None:
    for _ in range(30):
        await accept(db, tenant_id)
    other = await add_tenant(db)
    late = await accept(db, other)
    assert late in [claims.message_id for claims in await take(db, 2)]


async def test_more_tenants_than_room_are_served_from_the_cursor_on(db: Database) -> None:
    tenants = sorted([await add_tenant(db) for _ in range(5)])
    for tenant in tenants:
        await accept(db, tenant)
    first = await take(db, 3)
    rest = await take(db, 3, after=tenants[2])
    assert [claims.tenant_id for claims in (*first, *rest)] == tenants


async def test_a_tenants_urgent_mail_goes_first_and_idle_mail_last(db: Database, tenant_id: uuid.UUID) -> None:
    idle, usual, urgent = [await accept(db, tenant_id, priority=priority) for priority in (2, 1, 0)]
    assert [(await take(db, 1))[0].message_id for _ in range(3)] == [urgent, usual, idle]


async def test_mail_for_a_destination_that_must_wait_is_moved_to_its_lane(db: Database, tenant_id: uuid.UUID) -> None:
    waiting = await accept(db, tenant_id, domains=("slow.example",))
    going = await accept(db, tenant_id)
    taken = await deliveries.claim(
        db, Turns({COMMON_LANE: 10}, destinations=frozenset({"slow.example"})), lease_for=LEASE
    )
    assert [claims.message_id for claims in taken.claims] == [going]
    assert taken.diverted == (destination_lane("slow.example"),)
    assert await deliveries.list_lanes(db) == [destination_lane("slow.example")]
    assert (await claim_one(db, destination_lane("slow.example"))).message_id == waiting


async def test_mail_of_a_sender_that_must_wait_is_moved_to_its_lane(db: Database, tenant_id: uuid.UUID) -> None:
    waiting = await accept(db, tenant_id, sender_domain="refused.example")
    going = await accept(db, tenant_id)
    lane = sender_lane(tenant_id, "refused.example")
    assert [claims.message_id for claims in await take(db, senders=frozenset({lane}))] == [going]
    assert (await claim_one(db, lane)).message_id == waiting


async def test_a_result_counts_after_its_claim_ran_out_while_nobody_claimed_again(
    db: Database, tenant_id: uuid.UUID
) -> None:
    message_id = await accept(db, tenant_id)
    claims = await claim_one(db)
    await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING] * len(claims), lease_for=LEASE)
    await expire_leases(db)
    assert (await rescue(db)).in_doubt == 1
    assert list((await finish(db, results(claims, State.DELIVERED, "delivered"))).values()) == [State.DELIVERED]
    row = await row_of(db, message_id)
    assert (row["state"], row["doubts"]) == ("delivered", 0), "what was heard settles the doubt"
    await balance(db)


@pytest.mark.parametrize("kind", ["delivered", "deferred"])
async def test_a_late_reply_settles_a_doubt_that_was_held(db: Database, tenant_id: uuid.UUID, kind: str) -> None:
    message_id = await accept(db, tenant_id, on_doubt="hold")
    claims = await claim_one(db)
    await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING] * len(claims), lease_for=LEASE)
    await expire_leases(db)
    await rescue(db)
    assert (await row_of(db, message_id))["state"] == "dead"
    state = State.DELIVERED if kind == "delivered" else State.QUEUED
    await finish(db, results(claims, state, kind, None if kind == "delivered" else timedelta(0)))
    row = await row_of(db, message_id)
    assert (row["state"], row["doubts"]) == (state, 0)
    await balance(db)


async def test_a_late_250_stops_whoever_is_about_to_send_again(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await deliveries.commit_phases(db, slow.each, [Phase.DOT_PENDING] * len(slow), lease_for=LEASE)
    await expire_leases(db)
    await rescue(db)
    quick = await claim_one(db)
    await finish(db, results(slow, State.DELIVERED, "delivered"))
    assert (await row_of(db, message_id))["state"] == "delivered"
    assert await deliveries.commit_phases(db, quick.each, [Phase.DOT_PENDING] * len(quick), lease_for=LEASE) == set()


async def test_a_late_250_beside_a_dot_that_is_being_sent_is_an_event(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    slow = await claim_one(db)
    await deliveries.commit_phases(db, slow.each, [Phase.DOT_PENDING] * len(slow), lease_for=LEASE)
    await expire_leases(db)
    await rescue(db)
    quick = await claim_one(db)
    await deliveries.commit_phases(db, quick.each, [Phase.DOT_PENDING] * len(quick), lease_for=LEASE)
    assert await finish(db, results(slow, State.DELIVERED, "delivered")) == {}
    assert (await row_of(db, message_id))["claim_token"] == quick.each[0].token
    assert (await kinds(db, tenant_id, message_id))[-1] == "late"


async def test_a_result_that_is_written_twice_changes_nothing(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    heard = results(await claim_one(db), State.QUEUED, "deferred", timedelta(minutes=1))
    await finish(db, heard)
    before = await row_of(db, message_id)
    assert list((await finish(db, heard)).values()) == [None]
    assert await row_of(db, message_id) == before
    assert await kinds(db, tenant_id, message_id) == ["accepted", "sending", "deferred"]


@pytest.mark.parametrize("how", ["the server is silent", "the worker dies"])
async def test_doubts_are_bounded(db: Database, tenant_id: uuid.UUID, how: str) -> None:
    message_id = await accept(db, tenant_id)
    for _ in range(3):
        claims = await claim_one(db)
        await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING] * len(claims), lease_for=LEASE)
        if how == "the worker dies":
            await expire_leases(db)
            await rescue(db)
        else:
            await finish(db, results(claims, State.QUEUED, "in_doubt", timedelta(0)))
    row = await row_of(db, message_id)
    assert (row["state"], row["reason"], row["doubts"]) == ("dead", "in_doubt", 3)
    assert (await kinds(db, tenant_id, message_id)).count("in_doubt") == 3
    await balance(db)


async def test_an_expired_message_is_claimed_as_expired(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, lifetime=timedelta(0))
    assert (await claim_one(db)).is_expired


async def test_the_books_balance_at_every_step(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example", "c.example"))
    assert (await balance(db))["queued"] == 3
    claims = await claim_one(db)
    assert (await balance(db))["sending"] == 3
    await finish(db, results(claims, State.DELIVERED, "delivered")[:1])
    await finish(db, results(claims, State.BOUNCED, "bounced")[1:2])
    row = await balance(db)
    assert (row["accepted"], row["delivered"], row["bounced"], row["sending"]) == (3, 1, 1, 1)


async def test_the_commit_of_a_dot_writes_no_index(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    (claims,) = await take(db)
    async with db.transaction() as transaction:
        held = await deliveries.commit_phases(transaction, claims.each, [Phase.DOT_PENDING], lease_for=LEASE)
        row = await transaction.fetch_one(
            "SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'delivery'"  # a claim never is
        )
    assert held == {claims.each[0].token}
    assert row is not None
    assert row["n_tup_hot_upd"] == 1


async def test_a_lease_that_ran_on_begins_anew_with_the_dot(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    (claims,) = await take(db)
    await db.execute("UPDATE delivery SET claim_expires_at = now() + interval '10 seconds'")
    await deliveries.commit_phases(db, claims.each, [Phase.DOT_PENDING], lease_for=LEASE)
    row = await db.fetch_one("SELECT claim_expires_at > now() + interval '15 seconds' AS is_renewed FROM delivery")
    assert row is not None
    assert row["is_renewed"]
