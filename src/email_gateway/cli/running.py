"""Running a part of the gateway as a process: its event loop, and signals as the wish to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

import uvloop


def run_until_stopped(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work` until it returns; SIGTERM or SIGINT sets its event, a second one cancels it."""
    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(_stoppable(work))


async def _stoppable(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    working = asyncio.ensure_future(work(stop))

    def ask() -> None:
        if stop.is_set():
            working.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    await working
