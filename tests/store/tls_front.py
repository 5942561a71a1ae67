"""TLS in front of the real server, as PostgreSQL itself speaks it: the wheel's is built without OpenSSL."""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

# https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class TlsFront:
    """Answers the request for TLS, shakes hands, and passes on what comes; nobody gets through without."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        server = urlsplit(url)
        self._address = (server.hostname, server.port)
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def over(self, url: str, options: str) -> str:
        """The same URL through this front, with these options in its query."""
        port = self._server.sockets[0].getsockname()[1]
        return f"{url.replace(f':{self._address[1]}/', f':{port}/').partition('?')[0]}?{options}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                writer.close()
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.passed += 1
            server_reader, server_writer = await asyncio.open_connection(*self._address)
            for source, sink in ((reader, server_writer), (server_reader, writer)):
                task = asyncio.create_task(pump(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()
