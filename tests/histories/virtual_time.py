"""Time that moves only when a history says so: for the event loop and for the code's monotonic clock.

PostgreSQL's clock is moved beside it (`journal`). Between two moves everything runs until it has nothing
left to do, so that a history needs no sleep and comes out the same each time.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Iterator

STUCK_SECONDS = 30.0  # of real time: longer than any statement may take


class VirtualTime:
    """The seconds of a clock, and how many statements PostgreSQL is at."""

    def __init__(self) -> None:
        self.seconds = 1024.0
        self._statements = 0
        self._idle: asyncio.Future[None] | None = None

    def monotonic(self) -> float:
        return self.seconds

    @property
    def is_waiting_for_postgres(self) -> bool:
        return self._statements > 0

    @contextlib.contextmanager
    def asking_postgres(self) -> Iterator[None]:
        """Count a statement that is under way: until it is answered the loop has something to wait for."""
        self._statements += 1
        try:
            yield
        finally:
            self._statements -= 1

    async def advance(self, seconds: float) -> None:
        """Let this time pass at once; timers within it fire once, then all they begin runs until it waits."""
        self.seconds += seconds
        await self.until_idle()

    async def until_idle(self) -> None:
        """Wait until nothing can go on by itself."""
        self._idle = asyncio.get_running_loop().create_future()
        await self._idle

    def say_idle(self) -> bool:
        """Wake whoever waits for it; False when nobody does."""
        waiting, self._idle = self._idle, None
        if waiting is None or waiting.done():
            return False
        waiting.set_result(None)
        return True

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop that lives by this clock."""
        return _Loop(self)


class _Selector(selectors.DefaultSelector):
    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for PostgreSQL in real time, and for nothing else."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if not self._time.is_waiting_for_postgres and self._time.say_idle():
            return ready
        ready = super().select(STUCK_SECONDS)
        assert ready, "waiting for what never comes"
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, time: VirtualTime) -> None:
        super().__init__(_Selector(time))
        self._virtual = time

    def time(self) -> float:
        return self._virtual.seconds
