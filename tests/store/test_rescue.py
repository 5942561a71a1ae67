"""Who is rescued, and what it counts for: after an outage nobody, and no crowd for the one that kills."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claims, Phase
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Record
from email_gateway.store.deliveries import MAX_CRASHES, Turns
from email_gateway.store.messages import list_events
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=20)
AT_ONCE = timedelta(0)


async def accept(db: Database, tenant_id: uuid.UUID) -> None:
    await Acceptor(db).accept(new_request(tenant_id, new_message()))


async def claim(db: Database, lane: str = COMMON_LANE) -> Claims:
    (claims,) = (await deliveries.claim(db, Turns({lane: 1}), lease_for=LEASE)).claims
    return claims


async def lose(db: Database, claims: Claims, phase: Phase) -> None:
    """Let a worker die that has come this far, and be found."""
    await deliveries.renew(db, claims.each, [phase] * len(claims), lease_for=LEASE)
    await expire_leases(db)
    assert await rescue(db, AT_ONCE) == 1


async def expire_leases(db: Database) -> None:
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second' WHERE state = 'sending'")


async def rescue(db: Database, lease_for: timedelta) -> int:
    return (await deliveries.rescue(db, max_doubts=2, lease_for=lease_for)).rescued


async def delivery(db: Database) -> Record:
    (row,) = await db.fetch("SELECT * FROM delivery")
    return row


async def watch(db: Database, *, looked: float, steady: float) -> None:
    """Somebody last looked so many seconds ago, and had looked without a pause for so many."""
    await db.execute(
        "UPDATE rescue_watch SET looked_at = now() - $1::interval, steady_since = now() - $2::interval",
        timedelta(seconds=looked), timedelta(seconds=steady),
    )  # fmt: skip


async def test_a_delivery_that_kills_who_composes_it_alone_is_dead_in_the_end(
    db: Database, tenant_id: uuid.UUID
) -> None:
    await accept(db, tenant_id)
    await lose(db, await claim(db), Phase.CLAIMED)
    for _ in range(MAX_CRASHES - 1):
        await lose(db, await claim(db, SUSPECT_LANE), Phase.COMPOSING)
    row = await delivery(db)
    assert (row["state"], row["reason"]) == ("dead", "worker_lost")
    assert (await list_events(db, tenant_id, row["message_id"]))[-1].kind == "dead"


async def test_a_suspect_that_waits_for_its_turn_is_not_blamed_for_a_death(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await lose(db, await claim(db), Phase.CLAIMED)
    for _ in range(2 * MAX_CRASHES):
        await lose(db, await claim(db, SUSPECT_LANE), Phase.CLAIMED)
    row = await delivery(db)
    assert (row["state"], row["lane"], row["crashes"]) == ("queued", SUSPECT_LANE, 1)


async def test_a_suspect_that_was_composed_begins_anew(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    for _ in range(2 * MAX_CRASHES):
        await lose(db, await claim(db), Phase.CLAIMED)
        await lose(db, await claim(db, SUSPECT_LANE), Phase.COMPOSING)
        await lose(db, await claim(db, SUSPECT_LANE), Phase.COMPOSED)
        row = await delivery(db)
        assert (row["state"], row["lane"], row["crashes"]) == ("queued", COMMON_LANE, 0)


async def test_after_an_outage_nobody_is_rescued_for_the_time_of_a_lease(db: Database, tenant_id: uuid.UUID) -> None:
    # Whoever looks first may have started just now: what it needs to know stands in the database.
    await accept(db, tenant_id)
    await claim(db)
    await watch(db, looked=11, steady=3600)
    await expire_leases(db)
    assert await rescue(db, LEASE) == 0
    await watch(db, looked=1, steady=19)
    assert await rescue(db, LEASE) == 0
    await watch(db, looked=1, steady=20)
    assert await rescue(db, LEASE) == 1


async def test_a_short_pause_keeps_no_orphan_waiting(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await claim(db)
    await watch(db, looked=9, steady=3600)
    await expire_leases(db)
    assert await rescue(db, LEASE) == 1


async def test_who_finds_another_at_it_passes_by(db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await claim(db)
    await expire_leases(db)
    async with db.transaction() as another:
        await another.execute("SELECT FROM rescue_watch FOR UPDATE")
        assert await rescue(db, AT_ONCE) == 0
    assert await rescue(db, AT_ONCE) == 1
