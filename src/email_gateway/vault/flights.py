"""Callers that want the same thing at the same moment wait for one load of it."""

import asyncio
from collections.abc import Callable, Coroutine
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
        if task is None:
            self._under_way[name] = task = asyncio.create_task(load())
            task.add_done_callback(lambda done: self._land(name, done))
        return await asyncio.shield(task)

    def _land(self, name: Name, done: asyncio.Task[Result]) -> None:
        del self._under_way[name]
        if not done.cancelled():
            # Looked at here, or asyncio would log it with a traceback when every caller has gone.
            done.exception()
