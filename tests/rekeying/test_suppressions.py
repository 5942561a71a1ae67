"""Suppressions while index keys change: none is missed, whoever adds it and with whichever keys."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from email_gateway.errors import Conflict
from email_gateway.store.database import Database
from email_gateway.store.suppressions import Reason, count_suppression_indexes
from email_gateway.suppressions import Entry, Suppressions
from tests.rekeying.process import Process, address_of
from tests.rekeying.rotating import A_DAY_AGO, command_of, states

pytestmark = pytest.mark.anyio


@pytest.fixture
async def following(one: Process) -> AsyncIterator[None]:
    async def follow() -> None:
        while True:
            await one.follow()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(follow())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def list_of(process: Process) -> Suppressions:
    return Suppressions(process.db, process.keyring)


async def assert_all_found(process: Process, tenant_id: UUID, count: int) -> None:
    reasons = await list_of(process).find_reasons(tenant_id, [address_of(number) for number in range(count)])
    assert reasons == [Reason.MANUAL] * count
    await process.accept(tenant_id, 0)
    rows = await process.db.fetch("SELECT DISTINCT state FROM delivery")
    assert [row["state"] for row in rows] == ["suppressed"]


@pytest.mark.usefixtures("following")
async def test_suppressions_are_found_before_during_and_after_a_rotation_and_a_drop(
    db: Database, one: Process, tenant_id: UUID
) -> None:
    await list_of(one).add(tenant_id, [Entry(address_of(number)) for number in range(3)])
    old = (await one.keyring.tenant(tenant_id)).index_key_id
    command = await command_of(db, tenant_id)
    rotated = await command.rotate()
    await assert_all_found(one, tenant_id, 3)
    await list_of(one).add(tenant_id, [Entry(address_of(3))])
    assert await count_suppression_indexes(db, tenant_id, rotated.active.key_id, old) == (4, 4)
    await db.execute(A_DAY_AGO)
    await command.drop()
    assert await count_suppression_indexes(db, tenant_id, rotated.active.key_id, old) == (4, 0)
    for process in (one, await Process.start(db)):
        await assert_all_found(process, tenant_id, 4)


@pytest.mark.usefixtures("following")
async def test_a_command_that_does_not_follow_adds_under_the_keys_in_use_all_the_same(
    db: Database, one: Process, two: Process, tenant_id: UUID
) -> None:
    """`two` is no process of the fleet: nobody waits for it, and it learns of the change when it writes."""
    await list_of(two).add(tenant_id, [Entry(address_of(0))])
    await (await command_of(db, tenant_id)).rotate()
    await list_of(two).add(tenant_id, [Entry(address_of(1))])
    await assert_all_found(one, tenant_id, 2)


@pytest.mark.usefixtures("following")
async def test_what_is_removed_or_added_while_the_copy_runs_is_not_in_its_way(
    db: Database, one: Process, two: Process, tenant_id: UUID
) -> None:
    await list_of(two).add(tenant_id, [Entry(address_of(number)) for number in range(20)])
    rotating = asyncio.create_task((await command_of(db, tenant_id)).rotate())
    number = 20
    while not rotating.done():
        await list_of(two).add(tenant_id, [Entry(address_of(number))])
        (removed,) = await list_of(two).find_ids(tenant_id, [address_of(number - 20)])
        assert removed is not None
        await list_of(two).remove(tenant_id, [removed])
        number += 1
    await rotating
    left = [address_of(each) for each in range(number - 20, number)]
    assert await list_of(one).find_reasons(tenant_id, left) == [Reason.MANUAL] * 20


@pytest.mark.usefixtures("following")
async def test_a_suppression_that_does_not_open_is_in_the_way_of_the_switch(
    db: Database, one: Process, tenant_id: UUID
) -> None:
    await list_of(one).add(tenant_id, [Entry(address_of(0)), Entry(address_of(1))])
    await db.execute("UPDATE suppression SET sealed_entry = set_byte(sealed_entry, 60, 0) || '\\x00'")
    with pytest.raises(Conflict, match="2 messages or suppressions do not open"):
        await (await command_of(db, tenant_id)).rotate()
    assert await states(db, tenant_id) == ["active", "incoming"]
