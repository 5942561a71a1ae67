"""Hearing NOTIFY: one connection outside the pool, brought back for as long as somebody listens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from email_gateway.errors import DatabaseUnavailable, GatewayError
from email_gateway.observe import get_logger
from email_gateway.store.connecting import Connection, Connector, close_connection
from email_gateway.store.failures import translated

log = get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=0.2)
LONGEST_PAUSE = timedelta(seconds=5)
# A connection can die unseen, behind a firewall that forgot it: it is noticed within these two.
CHECK_EVERY = timedelta(seconds=20)
ANSWER_WITHIN = timedelta(seconds=5)


class Ear:
    """What came on one connection and has not been taken yet, each channel once."""

    def __init__(self) -> None:
        self._channels: dict[str, None] = {}  # in the order in which they came
        self._stirred = asyncio.Event()

    def hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._channels[channel] = None
        self._stirred.set()

    def stir(self, *_: object) -> None:
        """End `rest`: something is to be looked at."""
        self._stirred.set()

    async def rest(self, at_most: timedelta) -> bool:
        """Wait until something stirs that has not stirred before; tell whether it did."""
        try:
            async with asyncio.timeout(at_most.total_seconds()):
                await self._stirred.wait()
        except TimeoutError:
            return False
        self._stirred.clear()
        return True

    def take(self) -> str | None:
        """Return the channel that was heard first, or None where none was."""
        channel = next(iter(self._channels), None)
        if channel is not None:
            del self._channels[channel]
        return channel


async def listen(
    connector: Connector,
    channels: Sequence[str],
    *,
    check_every: timedelta = CHECK_EVERY,
    answer_within: timedelta = ANSWER_WITHIN,
) -> AsyncGenerator[str | None, None]:
    """Yield None after every (re)connect, and the channel's name when something was notified there.

    Never ends by itself and never raises for a database that is away: a loss is logged once, and
    tries to reconnect follow for ever. Several waiting notifications of one channel become one.
    """
    is_lost, pause = False, FIRST_PAUSE
    while True:
        ear = Ear()
        try:
            async with _connected(connector, channels, ear) as connection:
                is_lost, pause = False, FIRST_PAUSE
                yield None
                while connection.generation == connector.generation:
                    channel = ear.take()
                    if channel is not None:
                        yield channel
                    elif not await ear.rest(check_every):
                        with translated():
                            await connection.execute("SELECT 1", timeout=answer_within.total_seconds())
                    if connection.is_closed():
                        raise DatabaseUnavailable("the connection that listens was closed")
            continue  # the URL has changed: that is no loss
        except GatewayError as error:
            if not is_lost:
                log.warning("listener_lost", error=error)
            is_lost = True
        await asyncio.sleep(pause.total_seconds())
        pause = min(pause * 2, LONGEST_PAUSE)


@asynccontextmanager
async def _connected(connector: Connector, channels: Sequence[str], ear: Ear) -> AsyncIterator[Connection]:
    """Hold a connection that listens; in the end it is closed, or cut off when it was lost."""
    connection = await connector.renewing(connector.open)
    connector.watchers.add(ear.stir)
    try:
        connection.add_termination_listener(ear.stir)
        with translated():
            for channel in channels:
                await connection.add_listener(channel, ear.hear)
        yield connection
    except GatewayError:
        connection.terminate()
        raise
    finally:
        connector.watchers.discard(ear.stir)
        await close_connection(connection)
