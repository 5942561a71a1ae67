"""One POST to a server that a caller chose: it must not lead us where only we can go.

The name is resolved here, every address is looked at, and the connection is made to one that was looked at, so
that a name which changes meanwhile changes nothing. Redirects are not followed, and no proxy is asked.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

from httptools import HttpParserError, HttpResponseParser

from email_gateway import __version__
from email_gateway.mail.webhooks import Address, Endpoint, Network, is_allowed

TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 4.0  # of one address, so that another can be tried
MAX_ANSWER_BYTES = 64 * 1024
KEPT_ANSWER_BYTES = 256
READ_BYTES = 16 * 1024
# Names are resolved in threads, which a slow server for names can hold for long: not those of everybody else.
RESOLVERS = 8

# In words: refused is any status but 2xx and 3xx; unreadable is what could not be opened here, and was not sent.
RESULTS = (
    "delivered",
    "refused",
    "redirected",
    "timeout",
    "unresolved",
    "unreachable",
    "tls_failed",
    "not_allowed",
    "protocol_error",
    "unreadable",
)

_FINAL = 200  # what comes before are interim responses (RFC 9110 section 15.2)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST: one word of RESULTS, the status where there was one, and the beginning of the body."""

    result: str
    status: int | None = None
    beginning: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return self.result == "delivered"


class NotAllowed(Exception):
    """The name stands for an address that nothing may be sent to."""


class Poster:
    """Posts to endpoints; `networks` are let through beside public addresses. Close it at the end."""

    def __init__(
        self, networks: Sequence[Network], tls: ssl.SSLContext | None = None, within_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._networks = tuple(networks)
        self._tls = tls or ssl.create_default_context()
        self._within_seconds = within_seconds
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="webhook-names")

    async def post(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body and return what came of it, in time; never raises for what the other end does."""
        try:
            async with asyncio.timeout(self._within_seconds):
                reader, writer = await self._connect(endpoint)
                try:
                    writer.write(_head(endpoint, headers, len(body)) + body)
                    return await _read_answer(reader)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return Answer("timeout")
        except NotAllowed:
            return Answer("not_allowed")
        except (socket.gaierror, UnicodeError):
            return Answer("unresolved")
        except ssl.SSLError:
            return Answer("tls_failed")
        except OSError:
            return Answer("unreachable")
        except HttpParserError:
            return Answer("protocol_error")

    def close(self) -> None:
        """Let go of the threads; one that still waits for a name ends by itself."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _connect(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers, each for a few seconds; raises what the last one came to."""
        addresses = await self._resolve(endpoint)
        if not all(is_allowed(address, self._networks) for address in addresses):
            raise NotAllowed
        failure: OSError = OSError("no address")
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(
                        str(address),
                        endpoint.port,
                        ssl=self._tls if endpoint.is_tls else None,
                        server_hostname=endpoint.host if endpoint.is_tls else None,
                        limit=MAX_ANSWER_BYTES,
                    )
            except ssl.SSLError:
                raise  # the server is there
            except OSError as error:  # TimeoutError is one
                failure = error
        raise failure

    async def _resolve(self, endpoint: Endpoint) -> list[Address]:
        with suppress(ValueError):
            return [ip_address(endpoint.host)]
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(ip_address(place[0]) for *_, place in found))


class _Response:
    """What the parser tells: the status of the last head, the body as far as it is kept, and whether it is whole."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.status: int | None = None
        self.beginning = b""
        self.is_whole = False

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= _FINAL else None

    def on_body(self, body: bytes) -> None:
        self.beginning = (self.beginning + body)[:KEPT_ANSWER_BYTES]

    def on_message_complete(self) -> None:
        self.is_whole = self.status is not None


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read a response, and no more of it than is allowed: once its status is known, the rest only says why."""
    response = _Response()
    read = 0
    while not response.is_whole and read < MAX_ANSWER_BYTES:
        data = await reader.read(READ_BYTES)
        if not data:
            break
        read += len(data)
        try:
            response.feed(data)
        except HttpParserError:
            if response.status is None:
                raise
            break  # what follows the head is not what it announced; the status stands
    status = response.status
    if status is None:
        return Answer("protocol_error")
    if status >= 300:
        return Answer("redirected" if status < 400 else "refused", status, response.beginning)
    return Answer("delivered", status, response.beginning)


def _head(endpoint: Endpoint, headers: Mapping[str, str], length: int) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    named = host if endpoint.port == (443 if endpoint.is_tls else 80) else f"{host}:{endpoint.port}"
    lines = {
        "Host": named,
        "Content-Type": "application/json",
        "Content-Length": str(length),
        "User-Agent": f"email-gateway/{__version__}",
        "Connection": "close",
        **headers,
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {endpoint.target} HTTP/1.1\r\n{text}\r\n".encode("ascii")
