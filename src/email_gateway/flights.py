"""Sharing work among callers: one load for all who want the same thing, one run for all who ask meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable


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
