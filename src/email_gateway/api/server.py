"""uvicorn as the api process runs it: no signals of its own, no access log, deadlines for slow clients."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from email_gateway.api.certificate import Certificate
from email_gateway.api.protocol import BoundedProtocol, list_overdue

GRACE_SECONDS = 20
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
SWEEP_TICKS = 10  # uvicorn ticks ten times a second
CUT_OFF_AT_ONCE = 50


class ApiServer(uvicorn.Server):
    """uvicorn without its signal handling: `serve` returns when it has drained, and the process exits with 0."""

    give_up_seconds = 18.0  # the rest of the grace is for the answers to arrive

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None = None) -> None:
        super().__init__(config)
        self._certificate = certificate
        self._overdue: list[BoundedProtocol] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after the drain, and exit with 143."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look for overdue connections once a second, and cut them off some at a time: a thousand would take long.

        And whether the certificate has changed.
        """
        if counter % SWEEP_TICKS == 0:
            if self._certificate is not None:
                self._certificate.follow()
            self._overdue = list_overdue(self.server_state.connections)
        now, self._overdue = self._overdue[:CUT_OFF_AT_ONCE], self._overdue[CUT_OFF_AT_ONCE:]
        for connection in now:
            if connection.is_overdue():  # still
                connection.cut_off()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End every connection in order: `BoundedProtocol.shutdown` says how, and whoever takes too long is answered 503."""
        giving_up = asyncio.get_running_loop().call_later(self.give_up_seconds, self._give_up)
        try:
            await super().shutdown(sockets)
        finally:
            giving_up.cancel()

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.give_up()

    def stop(self) -> None:
        """Stop accepting, finish what was asked for at most 20 seconds, and let `serve` return; again: at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def make_server(
    app: Any, protocol: type[BoundedProtocol] = BoundedProtocol, certificate: Certificate | None = None
) -> ApiServer:
    """Return a server for an ASGI application; with a certificate it speaks TLS and nothing else.

    `await server.serve(sockets=[...])` serves on sockets that other processes may share. Signals are
    the caller's: have them call `stop`.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="none",  # the process has chosen its loop before
        lifespan="on",
        log_config=None,
        access_log=False,  # uvicorn's has the query string in it
        proxy_headers=False,  # `clients.py` reads them, and only from trusted proxies
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
        ssl_context_factory=(lambda _config, _default: certificate.context) if certificate else None,
    )
    return ApiServer(config, certificate)
