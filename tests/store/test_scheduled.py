"""Messages that leave later, in a real PostgreSQL: nobody takes them early, and one's mind can be changed until then."""

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.errors import NotFound, NotScheduled
from email_gateway.mail.deliveries import COMMON_LANE, Claims
from email_gateway.store import deliveries, holds
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.deliveries import Turns
from email_gateway.store.holds import Target
from email_gateway.store.messages import get_message, list_events
from email_gateway.store.scheduled import cancel_scheduled, reschedule
from email_gateway.store.statistics import list_counts, list_recounts
from email_gateway.store.traces import trace_message
from email_gateway.store.waiting import read_waiting
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)
HOUR = timedelta(hours=1)
SOON = timedelta(milliseconds=300)


def later(after: timedelta = HOUR) -> datetime:
    return datetime.now(UTC) + after


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**{"scheduled_at": later(), **changes})
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def take(db: Queries) -> list[Claims]:
    return (await deliveries.claim(db, Turns({COMMON_LANE: 50}), lease_for=LEASE)).claims


async def take_when_due(db: Queries) -> Claims:
    async with asyncio.timeout(10):
        while not (taken := await take(db)):  # noqa: ASYNC110 - the database's clock has no event
            await asyncio.sleep(0.01)
    (claims,) = taken
    return claims


async def until(db: Database, sql: str) -> None:
    """Wait until the database says so: its clock and its locks have no event."""
    async with asyncio.timeout(10):
        while not await db.fetch(sql):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def rows_of(db: Database, message_id: uuid.UUID) -> list[Record]:
    return await db.fetch("SELECT * FROM delivery WHERE message_id = $1 ORDER BY recipient", message_id)


async def kinds(db: Database, tenant_id: uuid.UUID, message_id: uuid.UUID) -> list[tuple[str, int | None]]:
    return [(event.kind, event.recipient) for event in await list_events(db, tenant_id, message_id)]


async def books(db: Database) -> dict[str, int]:
    """The running totals, once they and the recount have said the same."""
    assert await list_recounts(db) == {}
    (counts,) = await list_counts(db)
    assert counts.difference == 0
    return {state.value: count for state, count in counts.by_state.items() if count}


async def test_a_scheduled_message_waits_and_its_life_begins_at_its_time(db: Database, tenant_id: uuid.UUID) -> None:
    at = later()
    message_id = await accept(db, tenant_id, scheduled_at=at, domains=("a.example", "b.example"))
    assert await take(db) == []
    for row in await rows_of(db, message_id):
        assert (row["state"], row["scheduled_at"], row["next_attempt_at"]) == ("queued", at, at)
        assert row["expires_at"] == at + timedelta(days=4)
    message = await get_message(db, tenant_id, message_id)
    assert message.expires_at == at + timedelta(days=4)
    assert [delivery.is_scheduled for delivery in message.deliveries] == [True, True]
    assert await books(db) == {"queued": 2}


async def test_it_is_taken_when_its_time_comes_and_dated_then(db: Database, tenant_id: uuid.UUID) -> None:
    at = later(SOON)
    await accept(db, tenant_id, scheduled_at=at)
    claims = await take_when_due(db)
    assert claims.created_at == at
    assert claims.expires_at - claims.created_at == timedelta(days=4)


async def test_a_time_that_has_passed_is_at_once(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, scheduled_at=later(-HOUR))
    (row,) = await rows_of(db, message_id)
    assert row["scheduled_at"] is None
    assert row["expires_at"] > later(timedelta(days=4) - HOUR / 2)
    assert [claims.message_id for claims in await take(db)] == [message_id]


async def test_what_is_due_goes_by_priority_and_turn_whatever_is_scheduled(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, priority=0)
    low = await accept(db, tenant_id, priority=2, scheduled_at=None)
    high = await accept(db, tenant_id, priority=0, scheduled_at=None)
    first = (await deliveries.claim(db, Turns({COMMON_LANE: 1}), lease_for=LEASE)).claims
    assert [claims.message_id for claims in first] == [high]
    assert [claims.message_id for claims in await take(db)] == [low]


async def test_claiming_steps_over_what_is_scheduled_and_does_not_walk_through_it(
    db: Database, tenant_id: uuid.UUID
) -> None:
    await db.execute(
        "INSERT INTO delivery (tenant_id, message_id, recipient, domain, priority, next_attempt_at, scheduled_at)"
        " SELECT $1, gen_random_uuid(), 0, 'example.net', 0, at, at"
        " FROM (SELECT now() + n * interval '1 second' + interval '1 hour' AS at FROM generate_series(1, 20000) AS n) AS made",
        tenant_id,
    )
    await accept(db, tenant_id, scheduled_at=None)
    await db.execute("ANALYZE delivery")
    lines = await db.fetch(  # as `claim` looks within a lane and a tenant
        "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF)"
        " SELECT message_id FROM delivery WHERE state = 'queued' AND lane = '' AND tenant_id = $1"
        " AND next_attempt_at <= now() ORDER BY priority, next_attempt_at, message_id LIMIT 50",
        tenant_id,
    )
    text = "\n".join(line[0] for line in lines)
    assert "delivery_turns" in text
    (hit,) = re.findall(r"^ *Buffers: shared hit=(\d+)", text, re.MULTILINE)[:1]
    assert int(hit) < 30, text


async def test_it_can_be_moved_and_lives_as_long_from_then_on(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, domains=("a.example", "b.example"), lifetime=timedelta(minutes=5))
    to = later(timedelta(days=20))
    await reschedule(db, tenant_id, message_id, to)
    for row in await rows_of(db, message_id):
        assert (row["scheduled_at"], row["next_attempt_at"]) == (to, to)
        assert row["expires_at"] == to + timedelta(minutes=5)
    assert (await get_message(db, tenant_id, message_id)).expires_at == to + timedelta(minutes=5)
    assert await kinds(db, tenant_id, message_id) == [("accepted", None), ("rescheduled", None)]
    assert await books(db) == {"queued": 2}


async def test_moved_to_a_time_that_has_passed_it_leaves_at_once(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    await reschedule(db, tenant_id, message_id, later(-HOUR))
    assert [claims.message_id for claims in await take(db)] == [message_id]
    with pytest.raises(NotScheduled):
        await cancel_scheduled(db, tenant_id, message_id)


async def test_it_can_be_cancelled_and_the_books_balance(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, domains=("a.example", "b.example"))
    await cancel_scheduled(db, tenant_id, message_id)
    rows = await rows_of(db, message_id)
    assert [(row["state"], row["finished_at"] is not None) for row in rows] == [("cancelled", True)] * 2
    assert await kinds(db, tenant_id, message_id) == [("accepted", None), ("cancelled", 0), ("cancelled", 1)]
    assert await books(db) == {"cancelled": 2}
    for change in (cancel_scheduled(db, tenant_id, message_id), reschedule(db, tenant_id, message_id, later())):
        with pytest.raises(NotScheduled):
            await change
    assert len(await kinds(db, tenant_id, message_id)) == 3


async def test_a_message_that_was_never_scheduled_cannot_be_called_back(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, scheduled_at=None)
    with pytest.raises(NotScheduled):
        await cancel_scheduled(db, tenant_id, message_id)
    with pytest.raises(NotScheduled):
        await reschedule(db, tenant_id, message_id, later())
    assert await kinds(db, tenant_id, message_id) == [("accepted", None)]


async def test_another_tenants_message_is_not_found_and_not_touched(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    other = uuid.uuid4()
    with pytest.raises(NotFound):
        await cancel_scheduled(db, other, message_id)
    with pytest.raises(NotFound):
        await reschedule(db, other, message_id, later())
    assert await books(db) == {"queued": 1}


async def test_what_a_worker_has_taken_is_not_cancelled_by_who_began_before(db: Database, tenant_id: uuid.UUID) -> None:
    """The worker's claim is committed, or about to be; to who cancels the time is still to come."""
    for is_committed_before in (True, False):
        message_id = await accept(db, tenant_id, scheduled_at=later(SOON))
        async with db.transaction() as early:
            await early.fetch("SELECT now()")
            if is_committed_before:
                await take_when_due(db)
                with pytest.raises(NotScheduled):
                    await cancel_scheduled(early, tenant_id, message_id)
                continue
            await until(db, "SELECT FROM delivery WHERE scheduled_at < now() AND state = 'queued'")
            async with db.transaction() as claiming:
                assert len(await take(claiming)) == 1
                cancelling = asyncio.create_task(cancel_scheduled(early, tenant_id, message_id))
                await until(db, "SELECT FROM pg_locks WHERE NOT granted")
            with pytest.raises(NotScheduled):
                await cancelling
    rows = await db.fetch("SELECT state FROM delivery")
    assert [row["state"] for row in rows] == ["sending", "sending"]
    assert await books(db) == {"sending": 2}


async def test_what_is_being_cancelled_is_not_taken(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, scheduled_at=later(SOON))
    async with db.transaction() as cancelling:
        await cancel_scheduled(cancelling, tenant_id, message_id)
        await until(db, "SELECT FROM delivery WHERE scheduled_at < now()")
        assert await take(db) == []
    assert await take(db) == []
    assert await books(db) == {"cancelled": 1}


async def test_of_many_changes_at_once_every_message_has_one_end(db: Database, tenant_id: uuid.UUID) -> None:
    ids = [await accept(db, tenant_id, scheduled_at=later(SOON)) for _ in range(40)]
    taken: list[uuid.UUID] = []

    async def work() -> None:
        while len(await db.fetch("SELECT FROM delivery WHERE state = 'queued'")):
            taken.extend(claims.message_id for claims in await take(db))

    async def cancel(message_id: uuid.UUID) -> uuid.UUID | None:
        await until(db, "SELECT FROM delivery WHERE scheduled_at < now() + interval '20 milliseconds'")
        try:
            await cancel_scheduled(db, tenant_id, message_id)
        except NotScheduled:
            return None
        return message_id

    *cancelled, _, _ = await asyncio.gather(*(cancel(one) for one in ids), work(), work())
    ended = [one for one in cancelled if one is not None]
    assert sorted([*ended, *taken]) == sorted(ids)


async def test_a_flush_leaves_what_is_scheduled_to_its_time(db: Database, tenant_id: uuid.UUID) -> None:
    scheduled = await accept(db, tenant_id)
    deferred = await accept(db, tenant_id, scheduled_at=None)
    await db.execute("UPDATE delivery SET next_attempt_at = now() + interval '1 hour' WHERE message_id = $1", deferred)
    flushed = await holds.flush(db, Target(), actor="ana")
    assert flushed.deliveries == 1
    assert [claims.message_id for claims in await take(db)] == [deferred]
    assert (await get_message(db, tenant_id, scheduled)).deliveries[0].is_scheduled


async def test_to_an_operator_it_is_young_and_says_what_it_waits_for(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id)
    await db.execute("UPDATE delivery SET created_at = now() - interval '3 days'")
    waiting = await read_waiting(db)
    assert (waiting.queued.total, waiting.queued.by_age[0], waiting.queued.later) == (1, 1, 1)
    (waits_for,) = (await trace_message(db, message_id)).waits_for
    assert waits_for is not None
    assert "its caller scheduled it" in waits_for
