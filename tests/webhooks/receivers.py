"""A caller's server on a real socket: keeps what it was sent and answers as the test says."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    head: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> Any:
        """Return the event once its signature was found right, by the library that receivers use."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """`answers` are sent one after the other, then `answer`; `behave` goes on once a request was read."""

    url: str = ""
    answer: bytes = OK
    answers: list[bytes] = field(default_factory=list)
    behave: Behave | None = None
    connections: int = 0
    received: list[Received] = field(default_factory=list)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> list[Received]:
        """Wait until so many requests have come, and return them."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received

    @property
    def types(self) -> list[str]:
        return [one.event["type"] for one in self.received]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            async with self._came:
                self.received.append(Received(head, headers, body))
                self._came.notify_all()
            if self.behave is not None:
                await self.behave(reader, writer)
            else:
                writer.write(self.answers.pop(0) if self.answers else self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}/in?token=x"
    try:
        yield receiver
    finally:
        server.close()


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the other side has gone."""
    await reader.read()


def status(code: int, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 {code} Word\r\n{lines}Content-Length: 4\r\n\r\nsaid".encode()
