"""A network between a test and PostgreSQL that can go silent without closing anything."""

import asyncio
import contextlib
from urllib.parse import urlsplit

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Network:
    """Passes bytes both ways, and nothing while it is held; then connections stay open and dumb."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self._address = (server.hostname, server.port)
        self._is_passing = asyncio.Event()
        self._is_passing.set()
        self._reached = asyncio.Event()
        self._called = asyncio.Event()
        self._passages: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)

    async def close(self) -> None:
        self._server.close()
        for passage in self._passages:
            passage.cancel()
        if self._passages:
            await asyncio.wait(self._passages)

    def over(self, url: str) -> str:
        """The same URL, over this network."""
        port = self._server.sockets[0].getsockname()[1]
        return url.replace(f":{self._address[1]}/", f":{port}/")

    def hold(self) -> None:
        self._is_passing.clear()
        self._reached.clear()
        self._called.clear()

    def release(self) -> None:
        self._is_passing.set()

    async def until_reached(self) -> None:
        """Wait until something was sent while nothing passes."""
        await self._reached.wait()

    async def until_called(self) -> None:
        """Wait until another connection was opened after `hold`."""
        await self._called.wait()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._called.set()
        server_reader, server_writer = await asyncio.open_connection(*self._address)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            passage = asyncio.create_task(self._pump(source, sink))
            self._passages.add(passage)
            passage.add_done_callback(self._passages.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if not self._is_passing.is_set():
                        self._reached.set()
                    await self._is_passing.wait()
                    sink.write(data)
        finally:
            sink.close()
