"""Idempotency keys are HMACs under the index key: twins store one message at every step of its rotation."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from email_gateway.store.database import Database
from tests.rekeying.process import Process
from tests.rekeying.rotating import A_DAY_AGO, command_of

pytestmark = pytest.mark.anyio

KEY = b"order 17"


async def count_messages(db: Database) -> int:
    return int((await db.fetch("SELECT count(*) AS n FROM message"))[0]["n"])


async def step_through(db: Database, tenant_id: UUID) -> AsyncIterator[str]:
    """Make each change of the rotation, waiting for nobody, and yield after each."""
    command = await command_of(db, tenant_id)
    await command._begin()
    yield "incoming"
    await command.keyring.reload()
    await command._copy_what_is_missing()
    await command._switch()
    yield "switched"
    await db.execute(A_DAY_AGO)
    await command._destroy()
    yield "dropped"


async def test_twins_through_processes_one_step_apart_never_store_two_messages(
    db: Database, one: Process, two: Process, tenant_id: UUID
) -> None:
    for number, process in enumerate((one, two)):
        await process.accept(tenant_id, number)
    expected = 2
    async for _ in step_through(db, tenant_id):
        for leader, laggard in ((one, two), (two, one)):
            await leader.keyring.reload()
            number, expected = expected, expected + 1
            turns = (leader, laggard) if number % 2 else (laggard, leader)
            key = f"key {number}".encode()
            first = await turns[0].accept(tenant_id, number, key=key)
            second = await turns[1].accept(tenant_id, number, key=key)
            assert (first.is_replay, second.is_replay) == (False, True)
            assert first.response == second.response
            assert await count_messages(db) == expected


@pytest.mark.parametrize("rounds", range(3))
async def test_twins_at_the_same_moment_store_one_message(
    db: Database, one: Process, two: Process, tenant_id: UUID, rounds: int
) -> None:
    for process in (one, two):
        await process.accept(tenant_id, 0)
    stored = 2
    async for _ in step_through(db, tenant_id):
        for process in (one, two, one):
            requests = [(one, number) for number in range(20)] + [(two, number) for number in reversed(range(20))]
            answers = await asyncio.gather(
                *(
                    each.accept(tenant_id, stored + number, key=b"%d-%d" % (stored, number))
                    for each, number in (requests if rounds % 2 else requests[::-1])
                    for _ in range(2)
                )
            )
            stored += 20
            assert await count_messages(db) == stored
            assert sum(not answer.is_replay for answer in answers) == 20
            assert len({answer.response for answer in answers}) == 20
            await process.keyring.reload()


async def test_a_twin_that_came_before_the_rotation_is_known_until_its_day_is_over(
    db: Database, one: Process, two: Process, tenant_id: UUID
) -> None:
    await two.accept(tenant_id, 0)
    first = await one.accept(tenant_id, 1, key=KEY)
    async for step in step_through(db, tenant_id):
        await one.keyring.reload()
        again = await one.accept(tenant_id, 1, key=KEY)
        # The test's clock jumped over the day for which the old key would have been kept.
        assert again.is_replay == (step != "dropped")
        assert step == "dropped" or again.response == first.response
