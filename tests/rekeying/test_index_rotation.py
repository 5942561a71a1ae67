"""The blind index moves to a new key while two processes accept and search, one of them always a step behind."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from email_gateway.errors import Conflict, DatabaseRefused
from email_gateway.rekeying import walking
from email_gateway.rekeying.index_rotation import IndexRotation, InUse
from email_gateway.rekeying.walking import Report
from email_gateway.store.audit import list_audit
from email_gateway.store.blind_index import count_blind_indexes
from email_gateway.store.data_keys import StoredIndexKey
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, list_generations
from tests.rekeying.process import Process
from tests.rekeying.rotating import A_DAY_AGO, command_of, eventually, states

pytestmark = pytest.mark.anyio


@pytest.fixture
async def command(db: Database, tenant_id: UUID) -> IndexRotation:
    return await command_of(db, tenant_id)


class Follower:
    """A process that follows by itself until the test ends, as the fleet does."""

    def __init__(self, process: Process) -> None:
        self._task = asyncio.create_task(self._follow(process))

    async def _follow(self, process: Process) -> None:
        while True:
            await process.follow()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def following(one: Process, two: Process) -> AsyncIterator[None]:
    found = [Follower(one), Follower(two)]
    yield
    for follower in found:
        await follower.stop()


@pytest.mark.usefixtures("following")
async def test_everything_is_found_under_the_new_key_and_nothing_is_left_under_the_old(
    db: Database, one: Process, two: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    for number in range(10):
        await one.accept(tenant_id, number)
    before = (await one.keyring.tenant(tenant_id)).index_key_id
    rotated = await command.rotate()
    assert rotated.is_switched
    assert rotated.active.key_id != before
    assert await states(db, tenant_id) == ["decrypt_only", "active"]
    assert {await two.count_about(tenant_id, number) for number in range(10)} == {(1, 1, 10)}

    await db.execute(A_DAY_AGO)
    assert await command.drop() == 30
    assert await states(db, tenant_id) == ["destroyed", "active"]
    assert set((await count_blind_indexes(db, tenant_id, before)).values()) == {(0,)}
    for process in (one, two, await Process.start(db)):
        assert {await process.count_about(tenant_id, number) for number in range(10)} == {(1, 1, 10)}
    acts = [(entry.actor, entry.action) for entry in await list_audit(db)]
    assert acts == [("operator", f"index_key.{act}") for act in ("destroyed", "switched", "added")]


@pytest.mark.usefixtures("following")
async def test_another_rotation_may_follow_and_nothing_happens_to_one_that_is_done(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.accept(tenant_id, 1)
    first = await command.rotate()
    assert (await command.rotate()).active.key_id == first.active.key_id
    await db.execute(A_DAY_AGO)
    await command.drop()
    assert await command.drop() == 0
    await command.rotate()
    assert await states(db, tenant_id) == ["destroyed", "decrypt_only", "active"]
    assert await one.count_about(tenant_id, 1) == (1, 1, 1)


async def test_searches_find_everything_at_every_step_through_a_process_that_lags_one_step(
    db: Database, one: Process, two: Process, tenant_id: UUID
) -> None:
    """`one` follows at once and `two` only when it is waited for; mail comes through both all the while."""
    accepted = 0

    async def mail_and_look() -> None:
        nonlocal accepted
        for process in (one, two):
            await process.accept(tenant_id, accepted)
            accepted += 1
        for process in (one, two):
            for number in range(accepted):
                assert await process.count_about(tenant_id, number) == (1, 1, accepted)

    said: list[str] = []
    command = await command_of(db, tenant_id, said.append)
    for process in (one, two):
        await process.follow()
    await mail_and_look()
    running = asyncio.create_task(command.rotate())
    acts = [(1, "making"), (2, "writes under both"), (5, "reads the new")]
    for steps, words in acts:
        async with asyncio.timeout(10):
            while len(said) < steps:  # noqa: ASYNC110 - the command says where it is
                await asyncio.sleep(0.005)
        assert words in said[steps - 1]
        await mail_and_look()
        await one.follow()
        await mail_and_look()
        await two.follow()
        await mail_and_look()
    assert (await running).is_switched

    await db.execute(A_DAY_AGO)
    dropping = asyncio.create_task(command.drop())
    await eventually(db, tenant_id, ["destroyed", "active"])
    await mail_and_look()
    await one.follow()
    await mail_and_look()
    assert not dropping.done(), "two still writes under the old key"
    await two.follow()
    await dropping
    await mail_and_look()
    assert len(await db.fetch("SELECT DISTINCT index_key_id FROM blind_index")) == 1


async def test_a_process_that_does_not_follow_is_named_and_the_command_goes_on_later(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.accept(tenant_id, 1)
    await one.follow()
    impatient = replace(command, patience=timedelta(0))
    with pytest.raises(Conflict, match="api 4711 on test-host"):
        await impatient.rotate()
    assert await states(db, tenant_id) == ["active", "incoming"]
    await one.follow()
    with pytest.raises(Conflict, match="api 4711 on test-host"):
        await impatient.rotate()
    assert await states(db, tenant_id) == ["decrypt_only", "active"]
    await one.follow()
    assert (await impatient.rotate()).is_switched


async def test_a_process_that_was_silent_for_ninety_seconds_is_not_waited_for(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.follow()
    await db.execute("UPDATE crypto_instance SET seen_at = now() - interval '91 seconds'")
    assert (await replace(command, patience=timedelta(0)).rotate()).is_switched


async def test_the_old_key_is_kept_for_a_day_after_the_switch(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.accept(tenant_id, 1)
    with pytest.raises(Conflict, match="one index key"):
        await replace(command, keyring=one.keyring)._copy_what_is_missing()
    await command._begin()
    with pytest.raises(Conflict, match="finish `keys index rotate`"):
        await command.drop()
    await command.rotate()
    with pytest.raises(Conflict, match=r"24\.0 hours"):
        await command.drop()
    assert await states(db, tenant_id) == ["decrypt_only", "active"]


async def test_the_old_key_is_kept_while_a_process_reads_it(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.accept(tenant_id, 1)
    await command.rotate()
    await one.say((await list_generations(db))[Subject.KEYS].value - 1)
    await db.execute(A_DAY_AGO)
    with pytest.raises(Conflict, match="test-host"):
        await replace(command, patience=timedelta(0)).drop()
    assert await states(db, tenant_id) == ["decrypt_only", "active"]


async def test_a_copy_that_is_killed_goes_on_from_there(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 2)
    for number in range(7):
        await one.accept(tenant_id, number)
    seen: list[Report] = []

    def kill(report: Report) -> None:
        seen.append(report)
        if len(seen) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await replace(command, progress=kill).rotate()
    assert await command.count_rows() == 3
    again = await command_of(db, tenant_id)
    assert (await again.rotate()).is_switched
    await one.keyring.reload()
    assert {await one.count_about(tenant_id, number) for number in range(7)} == {(1, 1, 7)}


@pytest.mark.parametrize("step", ["_begin", "_copy_what_is_missing", "_switch"])
@pytest.mark.parametrize("is_done", [False, True])
async def test_a_rotation_that_is_killed_at_a_step_goes_on_from_there(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation, monkeypatch: pytest.MonkeyPatch,
    step: str, is_done: bool,
) -> None:  # fmt: skip
    await one.accept(tenant_id, 1)
    act = getattr(IndexRotation, step)

    async def die(self: IndexRotation) -> None:
        if is_done:
            await act(self)
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(IndexRotation, step, die)
        with pytest.raises(asyncio.CancelledError):
            await command.rotate()
    assert (await (await command_of(db, tenant_id)).rotate()).is_switched
    assert await states(db, tenant_id) == ["decrypt_only", "active"]


async def test_a_drop_that_is_killed_before_it_has_deleted_all_goes_on(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await one.accept(tenant_id, number)
    await command.rotate()
    await db.execute(A_DAY_AGO)

    async def die(self: IndexRotation) -> int:
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(IndexRotation, "_delete_entries", die)
        with pytest.raises(asyncio.CancelledError):
            await command.drop()
    assert await states(db, tenant_id) == ["destroyed", "active"]
    monkeypatch.setattr("email_gateway.store.blind_index.DELETE_BATCH", 3)
    assert await (await command_of(db, tenant_id)).drop() == 12


async def test_a_message_that_does_not_open_is_in_the_way_and_named(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    for number in range(3):
        await one.accept(tenant_id, number)
    (row,) = await db.fetch(
        "UPDATE message SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
        " WHERE message_id = (SELECT min(message_id::text)::uuid FROM message) RETURNING message_id"
    )
    reports: list[Report] = []
    with pytest.raises(Conflict, match="1 messages or suppressions do not open"):
        await replace(command, progress=reports.append).rotate()
    assert [report.unreadable for report in reports] == [(row["message_id"],)]
    assert await states(db, tenant_id) == ["active", "incoming"]


async def test_the_switch_counts_again(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.accept(tenant_id, 1)

    async def copy_nothing(_: IndexRotation) -> None:
        pass

    with monkeypatch.context() as idle:
        idle.setattr(IndexRotation, "_copy_what_is_missing", copy_nothing)
        with pytest.raises(Conflict, match="other numbers"):
            await command.rotate()
    assert await states(db, tenant_id) == ["active", "incoming"]
    assert (await command.rotate()).is_switched


async def test_what_came_in_under_the_old_key_alone_is_copied_before_a_drop(
    db: Database, one: Process, two: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    """`two` is a process that was paused for so long that it was taken for gone."""
    await one.accept(tenant_id, 1)
    await two.accept(tenant_id, 2)
    await command.rotate()
    await two.accept(tenant_id, 3)
    await one.keyring.reload()
    assert await one.count_about(tenant_id, 3) == (0, 0, 2)
    await two.keyring.reload()
    await db.execute(A_DAY_AGO)
    await command.drop()
    await one.keyring.reload()
    assert await one.count_about(tenant_id, 3) == (1, 1, 3)


async def test_commands_that_begin_at_once_make_one_key(db: Database, tenant_id: UUID) -> None:
    commands = [await command_of(db, tenant_id) for _ in range(4)]
    rotated = await asyncio.gather(*(command.rotate() for command in commands))
    assert len({each.active.key_id for each in rotated}) == 1
    assert await states(db, tenant_id) == ["decrypt_only", "active"]


async def test_a_tenant_has_two_index_keys_at_most(db: Database, tenant_id: UUID, command: IndexRotation) -> None:
    await command.in_use()
    await command._begin()
    await command._begin()
    assert await states(db, tenant_id) == ["active", "incoming"]
    with pytest.raises(DatabaseRefused):
        await db.execute(
            "INSERT INTO crypto_key (key_id, tenant_id, purpose, state) VALUES ($1, $2, 2, 'decrypt_only')",
            bytes(16),
            tenant_id,
        )


async def test_a_rotation_waits_for_requests_that_began_with_one_key(
    db: Database, one: Process, tenant_id: UUID, command: IndexRotation
) -> None:
    await one.follow()
    keys = await one.keyring.tenant(tenant_id)
    with keys.uses:
        request = await one.request(tenant_id, 1)
        running = asyncio.create_task(command.rotate())
        await eventually(db, tenant_id, ["active", "incoming"])
        following = asyncio.create_task(one.follow())
        await asyncio.sleep(0.1)  # nothing happens, and nobody tells
        assert not following.done()
        assert await states(db, tenant_id) == ["active", "incoming"]
        await one.acceptor.accept(request)
    follower = Follower(one)
    try:
        assert (await running).is_switched
    finally:
        await following
        await follower.stop()
    await one.keyring.reload()
    assert await one.count_about(tenant_id, 1) == (1, 1, 1)


def test_how_long_the_old_key_is_kept_is_told() -> None:
    key = StoredIndexKey(b"", "active", None, None, timedelta(hours=23))  # type: ignore[arg-type]
    assert InUse(key, None).may_drop_in == timedelta(hours=1)
    assert InUse(replace(key, age=timedelta(hours=25)), None).may_drop_in == timedelta()
