"""Blocking calls in threads that nobody has to wait for: neither the next call nor the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def call_in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a daemon thread of its own; cancelled, the thread is left to end by itself.

    An executor would wait at exit for every thread that hangs, and have a place less for each.
    """
    future = Future[T]()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001  (it is raised where the call is awaited)
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    threading.Thread(target=run, name="secrets", daemon=True).start()
    return await asyncio.wrap_future(future)
