"""An HTTP client that costs little: keep-alive connections, prebuilt requests, one in flight each.

Run as a process of its own (`python -m bench.load`), as any client of the gateway would be.
"""

import asyncio
import json
import sys
import time
from collections import deque
from functools import partial
from typing import cast

import uvloop

BODY_BYTES = 5000


def email(number: int) -> dict[str, object]:
    """A 5 KB transactional mail about one person, each to a recipient of its own."""
    return {
        "from": "Billing <billing@example.com>",
        "to": f"person{number}@example.net",
        "subject": f"Invoice {number}",
        "text": f"Invoice {number}\n"
        + "A line of an ordinary invoice, as long as lines of text are.\n" * (BODY_BYTES // 62),
        "recipient": {"tax_id": "529.982.247-25"},
    }


def request(path: str, api_key: str, body: object) -> bytes:
    """Return the bytes of one POST."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def status_of(answer: bytes) -> bytes | None:
    """Return the status of one answer, or None while it is incomplete."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return None
    marker = head.lower().index(b"content-length:") + len(b"content-length:")
    length = int(head[marker:].split(b"\r\n", 1)[0])
    return head[9:12] if len(body) >= length else None


class Connection(asyncio.Protocol):
    """Sends the next request of the shared queue as soon as the last is answered."""

    def __init__(self, pending: deque[bytes], finished: asyncio.Future[None]) -> None:
        self._pending = pending
        self._finished = finished
        self._buffer = b""
        self.statuses: dict[bytes, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        status = status_of(self._buffer)
        if status is None:
            return
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(exc or ConnectionResetError("the gateway closed the connection"))

    def _next(self) -> None:
        if self._pending:
            self._transport.write(self._pending.popleft())
        elif not self._finished.done():
            self._finished.set_result(None)
            self._transport.close()


async def run(port: int, requests: deque[bytes], connections: int) -> dict[str, object]:
    """Send every request over `connections` connections; return seconds and answers by status."""
    loop = asyncio.get_running_loop()
    finished = [loop.create_future() for _ in range(connections)]
    started = time.perf_counter()
    made = await asyncio.gather(
        *(loop.create_connection(partial(Connection, requests, future), "127.0.0.1", port) for future in finished)
    )
    await asyncio.gather(*finished)
    seconds = time.perf_counter() - started
    statuses: dict[str, int] = {}
    for _, protocol in made:
        for status, count in protocol.statuses.items():
            statuses[status.decode()] = statuses.get(status.decode(), 0) + count
    return {"seconds": seconds, "statuses": statuses}


def main() -> None:
    """Read the run as JSON on standard input, print the result as JSON."""
    plan = json.load(sys.stdin)
    count, batch, key = plan["count"], plan["batch"], plan["api_key"]
    if batch == 1:
        requests = deque(request("/v1/emails", key, email(number)) for number in range(count))
    else:
        requests = deque(
            request("/v1/emails/batch", key, [email(number) for number in range(start, start + batch)])
            for start in range(0, count, batch)
        )
    print("ready", flush=True)
    sys.stdin.close()
    print(json.dumps(uvloop.run(run(plan["port"], requests, plan["connections"]))))


if __name__ == "__main__":
    main()
