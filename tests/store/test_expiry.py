"""Mail whose time runs out while it waits ends by itself, with its event, and the books balance."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.mail.deliveries import State
from email_gateway.store import dead_letters, deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Record
from email_gateway.store.dead_letters import DeliveryId
from email_gateway.store.deliveries import Turns
from email_gateway.store.messages import list_events
from email_gateway.store.migrations import migrate
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def row_of(db: Database, message_id: uuid.UUID) -> Record:
    (row,) = await db.fetch("SELECT * FROM delivery WHERE message_id = $1", message_id)
    return row


@pytest.mark.parametrize(("dead_at_expiry", "state"), [(True, State.DEAD), (False, State.EXPIRED)])
async def test_what_waits_ends_when_its_time_runs_out(
    db: Database, tenant_id: uuid.UUID, dead_at_expiry: bool, state: State
) -> None:
    over = await accept(db, tenant_id, lifetime=timedelta(0), dead_at_expiry=dead_at_expiry)
    alive = await accept(db, tenant_id)
    await db.execute("UPDATE delivery SET lane = 'to:example.net', next_attempt_at = now() + interval '1 hour'")
    assert await deliveries.expire(db) == 1
    row = await row_of(db, over)
    assert (row["state"], row["reason"], row["attempts"], row["finished_at"] is not None) == (state, "expired", 0, True)
    events = [(event.kind, event.stage, event.reason) for event in await list_events(db, tenant_id, over)]
    assert events == [("accepted", None, None), (state, "queue", "expired")]
    assert (await row_of(db, alive))["state"] == "queued"
    (books,) = await db.fetch("SELECT * FROM conservation")
    assert (books["difference"], books[state.value], books["queued"]) == (0, 1, 1)


async def test_what_waited_before_the_index_was_there_is_found_by_it(
    db: Database, database_url: str, tenant_id: uuid.UUID
) -> None:
    over = await accept(db, tenant_id, lifetime=timedelta(0))
    await db.execute("ALTER TABLE delivery DROP COLUMN expires_at")
    await db.execute("ALTER TABLE pace DROP COLUMN actor, DROP COLUMN note")
    await db.execute("DELETE FROM schema_migration WHERE name = '0006_held_by_hand.sql'")
    assert await migrate(database_url) == ["0006_held_by_hand.sql"]
    assert await deliveries.expire(db) == 1
    assert (await row_of(db, over))["state"] == "dead"


async def test_more_than_a_batch_ends_in_batches(
    db: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "EXPIRE_BATCH", 2)
    for _ in range(5):
        await accept(db, tenant_id, lifetime=timedelta(0))
    assert await deliveries.expire(db) == 5
    assert await deliveries.expire(db) == 0


async def test_what_a_worker_holds_is_left_to_it(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(0))
    await deliveries.claim(db, Turns({"": 1}), lease_for=LEASE)
    assert await deliveries.expire(db) == 0
    assert (await row_of(db, message_id))["state"] == "sending"


async def test_the_last_word_of_a_lost_worker_is_waited_for(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(0))
    await deliveries.claim(db, Turns({"": 1}), lease_for=timedelta(0))
    await deliveries.rescue(db, max_doubts=2, lease_for=timedelta(0))
    assert await deliveries.expire(db) == 0
    assert (await row_of(db, message_id))["state"] == "queued"
    await db.execute("UPDATE delivery SET expires_at = expires_at - $1::interval", deliveries.LAST_WORD_WITHIN)
    assert await deliveries.expire(db) == 1


async def test_a_retried_dead_letter_lives_until_its_new_time(db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(0))
    await deliveries.expire(db)
    await dead_letters.retry_dead_letter(db, DeliveryId(message_id, 0), actor="ana")
    assert await deliveries.expire(db) == 0
    row = await row_of(db, message_id)
    assert row["state"] == "queued"
    (found,) = await db.fetch(
        "SELECT delivery.expires_at = message.expires_at AS is_known FROM delivery JOIN message USING (message_id)"
    )
    assert found["is_known"], "it is looked at again then, and not every second until then"
