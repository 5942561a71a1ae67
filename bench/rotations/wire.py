"""Just enough HTTP for a client that measures: kept connections in turn, each replaced after a while."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import Any

CONNECTIONS = 32
# The kernel spreads new connections over the processes of a port, so some are always new.
MAX_USES = 100
TIMEOUT_SECONDS = 10.0


class CutOff(Exception):
    """The connection ended before the whole answer had come: nothing is known of the request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def has(self, header: bytes) -> bool:
        """Tell whether this line stands in the head, in lower case."""
        return header in self.head.lower()


def request(method: str, path: str, api_key: str, body: object = None, **headers: str) -> bytes:
    """Return the bytes of a request; underscores in the names of headers become dashes."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {api_key}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join((*lines, "\r\n")).encode() + data


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._uses = 0

    @property
    def is_spent(self) -> bool:
        return self._uses >= MAX_USES or self._reader.at_eof() or self._writer.is_closing()

    async def exchange(self, data: bytes) -> Answer:
        self._uses += 1
        self._writer.write(data)
        head = await self._reader.readuntil(b"\r\n\r\n")
        marker = b"content-length:"
        length = int(head[head.lower().index(marker) + len(marker) :].split(b"\r\n", 1)[0])
        return Answer(int(head[9:12]), head, await self._reader.readexactly(length))

    def close(self) -> None:
        self._writer.close()


class Wire:
    """Connections to one port of this machine, taken in turn so that all are in use."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[Connection] = deque()

    async def open(self) -> None:
        """Open as many connections as are kept."""
        self._idle.extend([await self._connect() for _ in range(CONNECTIONS)])

    async def exchange(self, data: bytes) -> Answer:
        """Send a request and return its answer; raises CutOff, or TimeoutError after ten seconds."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                connection = await self._take()
                try:
                    answer = await connection.exchange(data)
                except BaseException:
                    connection.close()
                    raise
            except (OSError, EOFError) as error:
                # A TimeoutError is an OSError too, and here it is the deadline's own or the kernel's.
                if isinstance(error, TimeoutError):
                    raise
                raise CutOff from None
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.is_spent:
                return connection
            connection.close()
        return await self._connect()

    async def _connect(self) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", self._port))
