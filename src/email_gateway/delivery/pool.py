"""Connections to one smarthost, kept open between messages: few, not for ever, and closed politely."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.delivery.replies import Stage
from email_gateway.delivery.smtp import ConversationFailed, SmtpConnection

PROVEN_SECONDS = 10.0  # for so long after one was opened, others are opened side by side

Opener = Callable[[float], Awaitable[SmtpConnection]]


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections, for how many messages and for how long."""

    connections: int = 20  # Postfix's default for one destination
    messages: int = 100  # per connection, so that a smarthost behind a balancer is spread
    idle: timedelta = timedelta(seconds=30)  # below what servers wait for (Postfix and RFC 5321: 5 min)
    age: timedelta = timedelta(minutes=5)  # then names and certificates are looked at again


class Pool:
    """Lends connections, one to each borrower; `open_new` makes them, given the attempt's end."""

    def __init__(self, open_new: Opener, limits: PoolLimits) -> None:
        self._open_new = open_new
        self._limits = limits
        self._free = asyncio.Semaphore(limits.connections)
        self._idle: dict[SmtpConnection, float] = {}  # since when, the longest first
        self._sweep: asyncio.TimerHandle | None = None
        self._opened_at: dict[SmtpConnection, float] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._opening = asyncio.Lock()
        self._opened_well_at = 0.0
        self._failed: tuple[float, ConversationFailed] | None = None

    @asynccontextmanager
    async def connection(self, until: float, *, fresh: bool = False) -> AsyncIterator[SmtpConnection]:
        """Lend a connection that is ready for MAIL; the one used last comes first.

        Waits for one until the monotonic time `until`. `fresh` opens a new one and gives up those
        that idle: asked for when one of them turned out to be dead. A borrower that raises anything
        but ConversationFailed loses the connection at once: nothing it was writing may arrive.
        """
        await self._wait_for_room(until)
        try:
            if fresh:
                self._drop_idle()
            connection = self._take_idle()
            if connection is None:
                connection = await self._open(until)
                self._opened_at[connection] = time.monotonic()
            connection.until = until
            try:
                yield connection
            except ConversationFailed:
                raise
            except BaseException:
                connection.abort()
                raise
            finally:
                self._take_back(connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Say goodbye on every idle connection, all at once; those in use close when they are returned."""
        self._is_closed = True
        self._drop_idle()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._farewells:
            await asyncio.wait(self._farewells)

    async def _wait_for_room(self, until: float) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._free.acquire()
        except TimeoutError:
            raise ConversationFailed(Stage.CONNECT, "no_free_connection") from None

    async def _open(self, until: float) -> SmtpConnection:
        """Open a connection; one at a time unless one was opened a moment ago.

        A password that has become wrong is one failed login for all who wait, not one for each.
        """
        if time.monotonic() - self._opened_well_at < PROVEN_SECONDS:
            return await self._open_now(until)
        asked_at = time.monotonic()
        async with self._opening:
            if self._failed is not None and self._failed[0] >= asked_at:
                failed = self._failed[1]
                raise ConversationFailed(failed.stage, failed.reason, failed.reply)
            return await self._open_now(until)

    async def _open_now(self, until: float) -> SmtpConnection:
        try:
            connection = await self._open_new(until)
        except ConversationFailed as failed:
            self._failed, self._opened_well_at = (time.monotonic(), failed), 0.0
            raise
        self._opened_well_at = time.monotonic()
        return connection

    def _take_idle(self) -> SmtpConnection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_reusable:
                return connection
            self._drop(connection)
        return None

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            self._drop(connection)

    def _take_back(self, connection: SmtpConnection) -> None:
        age = time.monotonic() - self._opened_at[connection]
        is_spent = connection.messages >= self._limits.messages or age >= self._limits.age.total_seconds()
        if self._is_closed or is_spent or not connection.is_reusable:
            self._drop(connection)
            return
        self._idle[connection] = time.monotonic()
        if self._sweep is None:
            self._sweep_after(self._limits.idle.total_seconds())

    def _sweep_after(self, seconds: float) -> None:
        self._sweep = asyncio.get_running_loop().call_later(seconds, self._drop_stale)

    def _drop_stale(self) -> None:
        """Drop what has idled for long enough, and look again when the next one will have: one timer for all."""
        self._sweep = None
        oldest = time.monotonic() - self._limits.idle.total_seconds()
        for connection, since in list(self._idle.items()):
            if since > oldest:
                self._sweep_after(since - oldest)
                return
            self._drop(connection)

    def _drop(self, connection: SmtpConnection) -> None:
        """Forget a connection and end it in the background: nobody waits for a QUIT that hangs."""
        self._idle.pop(connection, None)
        self._opened_at.pop(connection, None)
        if not connection.is_reusable:
            connection.abort()
            return
        farewell = asyncio.create_task(connection.quit())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
