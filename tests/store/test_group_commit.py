"""Grouping is pure: what is queued together is committed together, and no member pays for another."""

import asyncio
from datetime import timedelta

import pytest

from email_gateway.errors import DatabaseRefused, DatabaseUnavailable, Overloaded
from email_gateway.store.group_commit import GroupCommit

pytestmark = pytest.mark.anyio


class Recorder:
    """A commit that notes its groups and doubles numbers, and refuses any group that holds `bad`."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.bad: int | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def commit(self, members: list[int]) -> list[int]:
        self.groups.append(members)
        await self.open.wait()
        if self.bad in members:
            raise DatabaseRefused("23514", "some_check")
        return [2 * member for member in members]


def group_of(recorder: Recorder, max_weight: int = 100) -> GroupCommit[int, int]:
    return GroupCommit(recorder.commit, weigh=lambda member: member, max_weight=max_weight)


async def test_members_that_wait_for_a_commit_share_the_next_one() -> None:
    recorder = Recorder()
    group = group_of(recorder)
    recorder.open.clear()
    waiting = [asyncio.create_task(group.submit(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(group.submit(member)) for member in (2, 3, 4)]
    await asyncio.sleep(0)
    recorder.open.set()
    assert await asyncio.gather(*waiting) == [2, 4, 6, 8]
    assert recorder.groups == [[1], [2, 3, 4]]


async def test_groups_that_are_dear_begin_apart_and_the_first_at_once() -> None:
    recorder = Recorder()
    group = GroupCommit(recorder.commit, weigh=lambda _: 1, max_weight=100, apart=timedelta(seconds=0.5))
    await group.submit(1)
    waiting = []
    for member in (2, 3, 4):
        waiting.append(asyncio.create_task(group.submit(member)))
        for _ in range(5):  # a writer that did not wait would have taken it
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert recorder.groups == [[1], [2, 3, 4]]


async def test_a_group_ends_at_its_weight_and_a_heavier_member_commits_alone() -> None:
    recorder = Recorder()
    group = group_of(recorder, max_weight=10)
    await asyncio.gather(*(group.submit(member) for member in (4, 6, 50, 1, 2)))
    assert recorder.groups == [[4, 6], [50], [1, 2]]


async def test_a_refused_group_is_tried_member_by_member() -> None:
    recorder = Recorder()
    recorder.bad = 2
    group = group_of(recorder)
    results = await asyncio.gather(*(group.submit(member) for member in (1, 2, 3)), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], DatabaseRefused)
    assert results[2] == 6


async def test_an_outage_reaches_every_member_and_the_next_group_still_runs() -> None:
    calls = 0

    async def commit(members: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise DatabaseUnavailable("away")
        return members

    group: GroupCommit[int, int] = GroupCommit(commit, weigh=lambda _: 1, max_weight=10)
    results = await asyncio.gather(group.submit(1), group.submit(2), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable, DatabaseUnavailable]
    assert await group.submit(3) == 3


async def test_a_cancelled_caller_leaves_the_others_of_its_group_unharmed() -> None:
    recorder = Recorder()
    group = group_of(recorder)
    recorder.open.clear()
    impatient, patient = asyncio.create_task(group.submit(1)), asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    impatient.cancel()
    recorder.open.set()
    assert await patient == 4
    assert recorder.groups == [[1, 2]]


async def test_close_waits_for_what_is_queued_and_refuses_what_comes_later() -> None:
    recorder = Recorder()
    group = group_of(recorder)
    waiting = asyncio.create_task(group.submit(1))
    await asyncio.sleep(0)
    await group.close()
    assert await waiting == 2
    with pytest.raises(Overloaded):
        await group.submit(2)
