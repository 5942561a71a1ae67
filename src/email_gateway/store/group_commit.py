"""Concurrent writes that wait for the same COMMIT share it.

The writer takes what queued while the last commit ran, so an idle system answers at once and a
busy one fills its groups. Where a group is dear whatever its size, groups begin a while apart:
that too costs an idle system nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from email_gateway.errors import DatabaseRefused, LockTimeout, Overloaded

Member = TypeVar("Member")
Result = TypeVar("Result")


class GroupCommit(Generic[Member, Result]):
    """Run `commit` on groups of members, one group at a time, and hand each member its result.

    `commit` takes at least one member and returns one result, or one exception, for each, in
    order. When PostgreSQL refuses a group, its members are tried one by one, so that no member
    fails for another's fault. `weigh` gives a member's weight; a group ends at `max_weight`, and a
    heavier member commits alone.
    """

    def __init__(
        self,
        commit: Callable[[list[Member]], Awaitable[Sequence[Result | Exception]]],
        *,
        weigh: Callable[[Member], int],
        max_weight: int,
        apart: timedelta = timedelta(0),
    ) -> None:
        self._commit = commit
        self._weigh = weigh
        self._max_weight = max_weight
        self._apart = apart.total_seconds()
        self._next_at = 0.0  # monotonic
        self._waiting: deque[tuple[Member, asyncio.Future[Result]]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self.committed = 0  # groups, so that others can tell whether it is at work
        self._is_closed = False

    async def submit(self, member: Member) -> Result:
        """Return the member's result once its group has committed, or raise what befell it.

        A caller that is cancelled while it waits does not stop its member from being written.
        """
        if self._is_closed:
            raise Overloaded("this process is shutting down")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future

    async def close(self) -> None:
        """Refuse new members and wait for those that are queued."""
        self._is_closed = True
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        try:
            while self._waiting:
                if (wait := self._next_at - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self._next_at = time.monotonic() + self._apart
                group = self._next_group()
                results = await self._commit_group([member for member, _ in group])
                self.committed += 1
                for (_, future), result in zip(group, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._writer = None

    def _next_group(self) -> list[tuple[Member, "asyncio.Future[Result]"]]:
        group = [self._waiting.popleft()]
        weight = self._weigh(group[0][0])
        while self._waiting:
            weight += self._weigh(self._waiting[0][0])
            if weight > self._max_weight:
                break
            group.append(self._waiting.popleft())
        return group

    async def _commit_group(self, members: list[Member]) -> Sequence[Result | Exception]:
        try:
            return await self._commit(members)
        except (DatabaseRefused, LockTimeout) as refused:
            if len(members) == 1:
                return [refused]
            return [(await self._commit_group([member]))[0] for member in members]
        except Exception as error:  # noqa: BLE001 - whatever befell the group befell each member
            return [error] * len(members)
