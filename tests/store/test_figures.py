"""The figures of the whole fleet, each read at a bounded cost."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.store import figures, keys
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.figures import read_figures
from email_gateway.store.secret_versions import record_current, stage_version
from email_gateway.vault.keyring import Keyring
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

LIVE_FOR = timedelta(seconds=35)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def make_due(db: Database, message_id: uuid.UUID, for_: timedelta, lane: str = "") -> None:
    await db.execute(
        "UPDATE delivery SET next_attempt_at = now() - $2::interval, lane = $3 WHERE message_id = $1",
        message_id,
        for_,
        lane,
    )


async def test_an_empty_gateway_has_no_figures_to_worry_about(db: Database) -> None:
    read = await read_figures(db, LIVE_FOR)
    assert (read.dead_letters, read.queue_age, read.versions, read.begun_rotations) == (0, timedelta(), {}, {})
    assert (read.roots, read.instances) == ((), ())


async def test_the_queues_age_is_that_of_the_delivery_that_is_due_the_longest(
    db: Database, tenant_id: uuid.UUID
) -> None:
    for lane, minutes in (("", 3), ("to:slow.example", 20), ("from:x", 7)):
        await make_due(db, await accept(db, tenant_id), minutes * MINUTE, lane)
    await make_due(db, await accept(db, tenant_id), timedelta(days=-1), "to:later.example")  # tried again tomorrow
    assert 20 * MINUTE <= (await read_figures(db, LIVE_FOR)).queue_age < 21 * MINUTE


async def test_what_waits_for_its_next_attempt_has_no_age_yet(db: Database, tenant_id: uuid.UUID) -> None:
    await make_due(db, await accept(db, tenant_id), -HOUR)
    assert (await read_figures(db, LIVE_FOR)).queue_age == timedelta()


async def test_the_age_is_found_by_steps_of_the_index(db: Database, tenant_id: uuid.UUID) -> None:
    await db.execute("SET enable_seqscan = off")  # a small table tempts the planner
    plan = await db.fetch(f"EXPLAIN {figures.SQL.find_oldest_due.replace('$1', '2000')}")
    told = "\n".join(row[0] for row in plan)
    assert told.count("Index Only Scan using delivery_turns") == 2
    assert "Seq Scan" not in told


async def test_dead_letters_are_counted_up_to_the_bound(
    db: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await accept(db, tenant_id)
    await db.execute("UPDATE delivery SET state = 'dead', next_attempt_at = NULL, finished_at = now()")
    assert (await read_figures(db, LIVE_FOR)).dead_letters == 3
    monkeypatch.setattr(figures, "MOST_COUNTED", 2)
    assert (await read_figures(db, LIVE_FOR)).dead_letters == 2


async def test_a_version_is_as_old_as_the_fleet_knows_it(db: Database) -> None:
    await record_current(db, "admin-api-key", "one")
    await db.execute("UPDATE secret_version SET current_since = now() - interval '3 days'")
    version = (await read_figures(db, LIVE_FOR)).versions["admin-api-key"]
    assert (version.version_id, version.age.days) == ("one", 3)


async def test_a_staged_admin_key_is_a_rotation_until_one_becomes_current(db: Database) -> None:
    await record_current(db, "admin-api-key", "one")
    await db.execute("UPDATE secret_version SET current_since = now() - interval '3 days'")
    await stage_version(db, "admin-api-key", "two")
    await db.execute("UPDATE secret_version SET staged_until = staged_until - interval '2 h' WHERE version_id = 'two'")
    begun = (await read_figures(db, LIVE_FOR)).begun_rotations
    assert 2 * HOUR <= begun["admin-api-key"] < 2 * HOUR + MINUTE
    await record_current(db, "admin-api-key", "three")  # by hand, since
    assert (await read_figures(db, LIVE_FOR)).begun_rotations == {}


async def test_a_pending_root_is_a_rotation_until_a_root_becomes_active(db: Database, keyring: Keyring) -> None:
    assert (await read_figures(db, LIVE_FOR)).begun_rotations == {}
    await db.execute("UPDATE crypto_root SET activated_at = now() - interval '3 days'")
    async with db.transaction() as transaction:
        await keys.put_root(transaction, b"p" * 16, "version", "salt", bytes(75))
        await keys.stage_root(transaction, b"p" * 16)
    assert timedelta() <= (await read_figures(db, LIVE_FOR)).begun_rotations["encryption-key"] < MINUTE
    await db.execute("UPDATE crypto_root SET activated_at = now() + interval '1 s' WHERE state = 'active'")
    assert (await read_figures(db, LIVE_FOR)).begun_rotations == {}
