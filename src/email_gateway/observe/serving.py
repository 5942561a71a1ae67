"""The metrics of a process over HTTP, beside whatever else it does: a worker has no other door."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import AsyncIterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from email_gateway.errors import ConfigurationError
from email_gateway.observe.logs import get_logger
from email_gateway.observe.metrics import REGISTRY

log = get_logger(__name__)

# As many processes of one machine find a port of their own.
MOST_PORTS = 64
PATIENCE_SECONDS = 10.0


@contextlib.asynccontextmanager
async def serving_metrics(address: tuple[str, int]) -> AsyncIterator[int]:
    """Serve /metrics meanwhile, on the first free port from the given one on; yields that port.

    Raises ConfigurationError when this machine does not have the address, or no port is free.
    """
    # In threads: the server asks the resolver for the machine's name, and ends when it next looks.
    server = await asyncio.to_thread(_bind, *address)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics_served", port=server.server_port)
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def _bind(host: str, first: int) -> "_Server":
    for port in range(first, min(first + MOST_PORTS, 65_536)):
        try:
            return _Server(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"METRICS_LISTEN: cannot listen on {host}: {error.strerror}; give an address of this machine"
                ) from None
    raise ConfigurationError(f"METRICS_LISTEN: no port is free from {first} on: choose another one")


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_SECONDS  # a connection that says nothing is ended

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet: a line for each scrape says nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # the end of the process does not wait for who still reads

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.set_app(make_wsgi_app(REGISTRY))

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log that a scrape broke off; the library would print a traceback beside the log."""
        log.info("scrape_broken")
