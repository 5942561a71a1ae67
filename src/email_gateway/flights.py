"""Sharing work among callers: one load for all who want the same thing, one run for all who ask meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")


class Flights(Generic[Name, Result]):
    """One load at a time for each name. A load that fails fails for all who waited, and is forgotten."""

    def __init__(self) -> None:
        self._under_way: dict[Name, asyncio.Task[Result]] = {}

    async def join(self, name: Name, load: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Wait for the load of `name` that is under way, or for one begun now.

        A caller that is cancelled leaves the load to the others.
        """
        task = self._under_way.get(name)
        if task is None or task.done():  # done and not landed: whoever asks now asks after it
            self._under_way[name] = task = asyncio.create_task(load())
            task.add_done_callback(lambda done: self._land(name, done))
        return await asyncio.shield(task)

    def _land(self, name: Name, done: asyncio.Task[Result]) -> None:
        if self._under_way[name] is done:
            del self._under_way[name]
        if not done.cancelled():
            # Looked at here, or asyncio would log it with a traceback when every caller has gone.
            done.exception()


class NextFlight:
    """One run at a time. Who asks during a run shares the next one: what was so before the call is seen by it.

    A run that raises or is cancelled counts for nobody: the next caller in line runs again.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = self._ended = 0

    async def join(self, run: Callable[[], Awaitable[None]]) -> bool:
        """Return once a run has ended that began after this call; True when it was the caller's own."""
        ticket = self._begun
        async with self._lock:
            if self._ended > ticket:
                return False
            self._begun += 1
            number = self._begun
            await run()
            self._ended = number
            return True
