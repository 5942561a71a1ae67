"""The worker's side of the queue, on a real database: leases renewed, phases committed, claims lost."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from email_gateway.errors import ClaimLost
from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claims, Phase
from email_gateway.queue import Queue
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Record
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

SHORT = timedelta(seconds=1)  # and yet renewed in time on a busy machine


async def accept(db: Database, tenant_id: uuid.UUID, count: int = 1) -> None:
    await Acceptor(db).accept(new_request(tenant_id, *(new_message() for _ in range(count))))


async def take(queue: Queue, count: int) -> list[Claims]:
    taken: list[Claims] = []
    async for claims in queue.claims():
        taken.append(claims)
        if len(taken) == count:
            break
    return taken


async def delivery_of(db: Database, claims: Claims) -> Record:
    row = await db.fetch_one("SELECT * FROM delivery WHERE message_id = $1", claims.message_id)
    assert row is not None
    return row


@contextlib.asynccontextmanager
async def keeping(queue: Queue) -> AsyncIterator[None]:
    keeper = asyncio.create_task(queue.keep())
    try:
        yield
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def test_claims_are_yielded_as_they_become_due_until_the_queue_stops(db: Database, tenant_id: uuid.UUID) -> None:
    queue = Queue(db, max_doubts=2, capacity=10)
    taking = asyncio.create_task(take(queue, 2))
    await accept(db, tenant_id, 2)
    assert len({claims.message_id for claims in await taking}) == 2
    queue.stop()
    assert await take(queue, 1) == []


async def test_no_more_is_claimed_than_there_is_room_for(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, 3)
    queue = Queue(db, max_doubts=2, capacity=2)
    first, _ = await take(queue, 2)
    third = asyncio.create_task(take(queue, 1))
    (row,) = await db.fetch("SELECT count(*) AS n FROM delivery WHERE state = 'queued'")
    assert row["n"] == 1
    queue.forget(first)
    assert len(await third) == 1


async def test_dot_pending_is_committed_before_reached_returns(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    queue = Queue(db, max_doubts=2, capacity=1)
    (claims,) = await take(queue, 1)
    await queue.reached(claims, Phase.CONNECTED)
    assert (await delivery_of(db, claims))["phase"] == "claimed", "an early phase costs no commit of its own"
    await queue.reached(claims, Phase.DOT_PENDING)
    assert (await delivery_of(db, claims))["phase"] == "dot_pending"


async def test_a_worker_that_slept_past_its_lease_may_not_send(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    sleeper = Queue(db, max_doubts=2, capacity=1)
    (claims,) = await take(sleeper, 1)
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second'")
    await deliveries.rescue(db, max_doubts=2, lease_for=timedelta(0))
    with pytest.raises(ClaimLost):
        await sleeper.reached(claims, Phase.DOT_PENDING)


async def test_a_held_claim_outlives_its_first_lease_and_shows_its_phase(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    queue = Queue(db, max_doubts=2, capacity=1, lease_for=SHORT)
    (claims,) = await take(queue, 1)
    first_lease = (await delivery_of(db, claims))["claim_expires_at"]
    await queue.reached(claims, Phase.RCPT_OK)
    async with keeping(queue):
        # The row changes in the database; there is nothing to await but time.
        while (row := await delivery_of(db, claims))["claim_expires_at"] <= first_lease + SHORT:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert row["phase"] == "rcpt_ok"
    assert row["claim_token"] == claims.each[0].token


async def test_that_a_suspect_is_composed_alone_is_committed(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id, 2)
    await db.execute(
        "UPDATE delivery SET lane = 'suspect' WHERE message_id = (SELECT max(message_id::text)::uuid FROM delivery)"
    )
    queue = Queue(db, max_doubts=2, capacity=2)
    async with keeping(queue):  # which looks for the lanes that there are
        taken = await take(queue, 2)
    assert {claims.lane for claims in taken} == {COMMON_LANE, SUSPECT_LANE}
    for claims in taken:
        is_suspect = claims.lane == SUSPECT_LANE
        await queue.begin_composing(claims)
        assert (await delivery_of(db, claims))["phase"] == ("composing" if is_suspect else "claimed")
        await queue.reached(claims, Phase.COMPOSED)
        assert (await delivery_of(db, claims))["phase"] == ("composed" if is_suspect else "claimed")


async def test_another_worker_rescues_and_claims_what_a_dead_one_held(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    (lost,) = await take(Queue(db, max_doubts=2, capacity=1), 1)  # and its process dies here
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second'")
    await db.execute("UPDATE rescue_watch SET looked_at = now(), steady_since = '-infinity'")
    survivor = Queue(db, max_doubts=2, capacity=1)
    async with keeping(survivor):
        (claims,) = await take(survivor, 1)
    assert claims.message_id == lost.message_id
    assert claims.each[0].token != lost.each[0].token
    assert claims.each[0].attempt == 2


async def test_close_gives_back_what_was_not_sent_and_keeps_what_may_have_been(
    db: Database, tenant_id: uuid.UUID
) -> None:
    await accept(db, tenant_id, 2)
    queue = Queue(db, max_doubts=2, capacity=2)
    unsent, sent = await take(queue, 2)
    await queue.reached(sent, Phase.DOT_PENDING)
    await queue.close()
    assert (await delivery_of(db, unsent))["state"] == "queued"
    assert (await delivery_of(db, unsent))["attempts"] == 0
    assert (await delivery_of(db, sent))["phase"] == "dot_pending"
