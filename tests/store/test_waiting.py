"""The queue as it is counted, what waits for a person, and one mail's story."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.errors import NotFound
from email_gateway.mail.deliveries import Phase
from email_gateway.store import deliveries, holds, pace
from email_gateway.store.accepting import Acceptor
from email_gateway.store.accounts import (
    create_api_key,
    resume_tenant,
    revoke_api_key,
    rotate_api_key,
    suspend_tenant,
)
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.store.holds import Target
from email_gateway.store.pace import Why
from email_gateway.store.traces import trace_message
from email_gateway.store.waiting import MOST_LOOKED_AT, SQL, list_concerns, read_waiting
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def age(db: Database, message_id: uuid.UUID, by: timedelta) -> None:
    await db.execute("UPDATE delivery SET created_at = created_at - $2::interval WHERE message_id = $1", message_id, by)


async def waits_for(db: Database, message_id: uuid.UUID) -> str:
    (told,) = (await trace_message(db, message_id)).waits_for
    assert told is not None
    return told


async def test_an_empty_queue_is_nothing(db: Database) -> None:
    waiting = await read_waiting(db)
    assert (waiting.queued.total, waiting.queued.oldest_at, waiting.sending, waiting.is_partial) == (0, None, 0, False)
    assert (waiting.by_lane, waiting.by_destination) == ((), ())


async def test_what_waits_is_counted_by_destination_lane_and_age(db: Database, tenant_id: uuid.UUID) -> None:
    ages = [timedelta(minutes=minutes) for minutes in (0, 6, 30, 120, 600, 3000)]
    for by in ages:
        await age(db, await accept(db, tenant_id, domains=("old.example",)), by)
    fresh = await accept(db, tenant_id, domains=("fresh.example",))
    await db.execute(
        "UPDATE delivery SET lane = 'to:fresh.example', next_attempt_at = now() + interval '1 h' WHERE message_id = $1",
        fresh,
    )
    waiting = await read_waiting(db)
    by_destination = {name: group.by_age for name, group in waiting.by_destination}
    assert by_destination == {"old.example": (1, 1, 1, 1, 1, 1), "fresh.example": (1, 0, 0, 0, 0, 0)}
    assert {name: group.total for name, group in waiting.by_lane} == {"": 6, "to:fresh.example": 1}
    assert (waiting.queued.total, waiting.queued.later, waiting.is_partial) == (7, 1, False)


async def test_a_count_that_stops_says_so(db: Database, tenant_id: uuid.UUID) -> None:
    for _ in range(3):
        await accept(db, tenant_id)
    waiting = await read_waiting(db, most=3)
    assert (waiting.queued.total, waiting.is_partial) == (3, True)


async def test_the_count_goes_by_the_index_of_what_is_queued(db: Database, tenant_id: uuid.UUID) -> None:
    await db.execute(
        "INSERT INTO delivery (tenant_id, message_id, recipient, domain, state, next_attempt_at, finished_at)"
        " SELECT $1, gen_random_uuid(), 0, 'done.example', 'delivered', NULL, now() FROM generate_series(1, 5000)",
        tenant_id,
    )
    await accept(db, tenant_id)
    await db.execute("ANALYZE delivery")
    plan = await db.fetch("EXPLAIN " + SQL.count_waiting, MOST_LOOKED_AT, 10)
    told = "\n".join(row[0] for row in plan)
    assert "Seq Scan on delivery" not in told
    assert "delivery_expiry" in told


async def test_what_outlived_workers_or_has_doubts_is_counted_apart(db: Database, tenant_id: uuid.UUID) -> None:
    for phase in (Phase.CLAIMED, Phase.DOT_PENDING):
        await accept(db, tenant_id)
        (claims,) = (await deliveries.claim(db, Turns({"": 1}), lease_for=LEASE)).claims
        if phase is Phase.DOT_PENDING:
            await deliveries.commit_phases(db, claims.each, [phase] * len(claims), lease_for=LEASE)
        await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 s' WHERE state = 'sending'")
        await deliveries.rescue(db, max_doubts=2, lease_for=timedelta(0))
    waiting = await read_waiting(db)
    assert (waiting.suspects, waiting.doubtful) == (1, 1)
    (concern,) = await list_concerns(db, await holds.list_lanes(db))
    assert (concern.kind, concern.count) == ("suspects", 1)


async def test_what_waits_for_a_person_comes_with_what_to_do(db: Database, tenant_id: uuid.UUID) -> None:
    await pace.hold(db, "smtp", "", Why("auth", "auth_failed", 535), probe_in=timedelta(0), is_probe=False)
    await pace.slow(db, "smtp", "to:slow.example", Why("dot", "rate_limited"), rate=1, unheard=timedelta(0))
    await holds.hold(db, Target(to="example.net"), actor="ana", reason="ticket 4711")
    await accept(db, tenant_id)
    await db.execute("UPDATE delivery SET state = 'dead', reason = 'in_doubt', finished_at = now()")
    by_hand, by_replies, dead = await list_concerns(db, await holds.list_lanes(db))
    assert (by_hand.kind, by_hand.what, by_hand.why) == ("held", "mail to example.net", "ana: ticket 4711")
    assert "email-gateway queue release --to example.net" in by_hand.to_do
    assert (by_replies.what, by_replies.why) == ("route smtp", "auth_failed at auth (535)")
    assert "Put the right user and password into the secret `smtp-url`" in by_replies.to_do
    assert (dead.kind, dead.why, dead.count) == ("dead", "in_doubt", 1)
    assert "`email-gateway dlq retry` sends it again" in dead.to_do


async def test_a_trace_tells_what_its_lane_waits_for(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, sender_domain="shop.example")
    assert await waits_for(db, message_id) == "Its turn. If that lasts, see that a worker runs."
    await db.execute("UPDATE delivery SET next_attempt_at = '2100-01-01T00:00:00Z', reason = 'mailbox_full'")
    assert "at 2100-01-01 00:00:00 UTC. The mailbox is full." in await waits_for(db, message_id)
    await db.execute("UPDATE delivery SET next_attempt_at = now(), lane = 'to:example.net'")
    assert "a lane that is open again" in await waits_for(db, message_id)
    await db.execute("UPDATE delivery SET lane = 'suspect'")
    assert "composed alone" in await waits_for(db, message_id)
    await pace.hold(
        db, "smtp", "to:example.net", Why("rcpt", "destination_refused", 450), probe_in=timedelta(0), is_probe=False
    )
    assert "mail to example.net on route smtp is held (destination_refused at rcpt (450))" in await waits_for(
        db, message_id
    )
    sender = Target(sender="shop.example", tenant_id=tenant_id)
    await holds.hold(db, sender, actor="ana", reason="a wrong campaign")
    told = await waits_for(db, message_id)
    assert "is held (ana: a wrong campaign)" in told, "an operator's hold before those of replies"
    assert f"email-gateway queue release --from shop.example --tenant {tenant_id}" in told


async def test_a_trace_of_nothing_is_not_found(db: Database, tenant_id: uuid.UUID) -> None:
    with pytest.raises(NotFound):
        await trace_message(db, uuid.uuid4())


async def test_a_finished_delivery_waits_for_nothing_and_a_dead_one_says_why(
    db: Database, tenant_id: uuid.UUID
) -> None:
    message_id = await accept(db, tenant_id)
    for state, reason, told in (
        ("delivered", None, None),
        ("dead", "mailbox_full", "The mailbox is full. It was tried until its time ran out."),
        ("dead", None, "It was not delivered."),
    ):
        await db.execute("UPDATE delivery SET state = $1, reason = $2, finished_at = now()", state, reason)
        (found,) = (await trace_message(db, message_id)).waits_for
        assert (found or "").startswith(told or "")
        assert (found is None) == (told is None)


async def test_a_key_that_ends_soon_waits_for_a_person_until_another_is_in_its_place(
    db: Database, tenant_id: uuid.UUID
) -> None:
    now = datetime.now(UTC)
    soon = await create_api_key(db, tenant_id, "soon", actor="test", expires_at=now + timedelta(days=13))
    for name, days in (("later", 15), ("ended", -1)):
        await create_api_key(db, tenant_id, name, actor="test", expires_at=now + timedelta(days=days))
    await create_api_key(db, tenant_id, "for ever", actor="test")
    revoked = await create_api_key(db, tenant_id, "revoked", actor="test", expires_at=now + timedelta(days=1))
    await revoke_api_key(db, tenant_id, revoked.key.api_key_id, actor="test")
    (concern,) = await list_concerns(db, [])
    assert (concern.kind, concern.what, concern.count) == ("ending", f"API key {soon.key.prefix} of acme", None)
    assert f"{soon.key.expires_at:%Y-%m-%d}" in concern.why
    assert f"`email-gateway tenants keys rotate acme {soon.key.prefix}`" in concern.to_do
    await suspend_tenant(db, tenant_id, actor="test")
    assert await list_concerns(db, []) == []
    await resume_tenant(db, tenant_id, actor="test")
    new = await rotate_api_key(db, tenant_id, soon.key.api_key_id, actor="test")
    assert [one.what for one in await list_concerns(db, [])] == [f"API key {new.key.prefix} of acme"], "13 days again"
    await db.execute("UPDATE tenant SET name = 'a b; c' WHERE tenant_id = $1", tenant_id)
    assert "rotate 'a b; c' eg_" in (await list_concerns(db, []))[0].to_do
