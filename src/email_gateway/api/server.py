"""uvicorn as the api process runs it: no signals of its own, no access log, deadlines for slow clients."""

import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn

from email_gateway.api.protocol import BoundedProtocol, sweep

GRACE_SECONDS = 20
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
SWEEP_TICKS = 10  # uvicorn ticks ten times a second


class ApiServer(uvicorn.Server):
    """uvicorn without its signal handling: `serve` returns when it has drained, and the process exits with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after the drain, and exit with 143."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Cut off overdue connections once a second."""
        if counter % SWEEP_TICKS == 0:
            sweep(self.server_state.connections)
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Stop accepting, finish what was asked for at most 20 seconds, and let `serve` return; again: at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def make_server(app: Any, protocol: type[BoundedProtocol] = BoundedProtocol) -> ApiServer:
    """Return a server for an ASGI application.

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
    )
    return ApiServer(config)
