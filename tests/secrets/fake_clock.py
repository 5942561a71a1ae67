"""Time that moves when the test says so."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

STUCK_SECONDS = 30.0


class FakeClock:
    """A clock for one sleeper, as the service is.

    With `runs_by_itself` a sleep ends at once and moves the time; `on_sleep` is called before.
    """

    def __init__(self, *, runs_by_itself: bool = False, on_sleep: Callable[[], None] = lambda: None) -> None:
        self._seconds = 1000.0
        self._runs_by_itself = runs_by_itself
        self._on_sleep = on_sleep
        self._sleeper: tuple[float, asyncio.Future[None]] | None = None
        self._is_asleep = asyncio.Event()

    def monotonic(self) -> float:
        return self._seconds

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)

    async def sleep(self, seconds: float) -> None:
        self._on_sleep()
        if self._runs_by_itself:
            self._seconds += seconds
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        self._sleeper = (self._seconds + seconds, wake)
        self._is_asleep.set()
        await wake

    async def advance(self, seconds: float) -> None:
        """Let this time pass: the sleeper wakes at its moments, and is asleep again at the end."""
        end = self._seconds + seconds
        while True:
            async with asyncio.timeout(STUCK_SECONDS):
                await self._is_asleep.wait()
            assert self._sleeper is not None
            wakes_at, wake = self._sleeper
            if wakes_at > end:
                break
            self._seconds = wakes_at
            self._is_asleep.clear()
            if not wake.done():
                wake.set_result(None)
        self._seconds = end
