"""uvicorn's HTTP protocol with the deadlines and bounds it lacks: slow headers, idle bodies, stalled readers.

Every answer arrives, also one to a request that is still coming, and also while the process stops.
A timer for each request would cost every request; instead a connection notes when something last
happened, and the server looks over its connections once a second (`is_overdue`).
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from email_gateway.api.problems import make_problem

MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100


class _Reading(Enum):
    HEADERS = "headers"
    BODY = "body"
    NOTHING = "nothing"


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once.

    uvicorn writes an answer's headers and its body one after the other, and uvloop sends each as it
    comes: two system calls, two packets, and a client that is woken twice.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._linger = linger
        self._pending: list[bytes] = []
        self._is_ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send with everything else that is written before the loop turns."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def is_closing(self) -> bool:
        """Whether nothing more is sent: to uvicorn a connection that only waits for its client to go is closed."""
        return self._is_ended or self._transport.is_closing()

    def close(self) -> None:
        """Close when everything written has been sent, and what the client is still sending has been dropped."""
        self._flush()
        if self.is_closing() or not self._linger():
            self._transport.close()
        else:
            self._is_ended = True
            if self._transport.can_write_eof():  # TLS cannot: there its length ends the answer
                self._transport.write_eof()  # the answer is complete; whoever reads it may stop sending

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending and not self.is_closing():  # aborted, or lost: nobody is there to read it
            self._transport.write(b"".join(pending))


class BoundedProtocol(HttpToolsProtocol):
    """A connection that cannot be held open, or filled, by doing nothing or by doing it slowly."""

    header_seconds = 10.0  # for all of them
    body_seconds = 30.0  # between two pieces of it
    write_seconds = 30.0  # without the client taking anything
    # A body may take its time, but not for ever: what comes slower than this on average is cut off.
    body_grace_seconds = 10.0
    least_bytes_per_second = 8 * 1024
    # An answer that is sent while the request still comes would be lost in the reset of a connection that is
    # closed with octets unread. So they are read on and dropped: for so long after the last of them, for so
    # long in all, and up to so many.
    linger_idle_seconds = 5.0
    linger_seconds = 30.0
    linger_bytes = 64 * 1024 * 1024
    # When the process stops, a kept connection is told so in its next answer. Who asks nothing for so long
    # is told without having asked.
    farewell_seconds = 1.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = _Reading.HEADERS
        self._since = self.loop.time()
        self._header_bytes = 0
        self._body_began = self._since
        self._body_bytes = 0
        self._write_paused_at: float | None = None
        self._is_refused = False  # below HTTP's requests: nobody knows where the next one begins
        self._is_ending = False
        self._is_lingering = False
        self._lingers_until = 0.0
        self._dropped_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client."""
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop, self._linger)  # type: ignore[assignment]  # as far as uvicorn uses one

    def data_received(self, data: bytes) -> None:
        """Feed the parser, counting what comes before a request's headers are complete."""
        if self._is_lingering:
            self._drop(len(data))
            return
        if self._reading is _Reading.BODY:
            self._since = self.loop.time()
            self._body_bytes += len(data)
            if not self._is_answering():  # already answered, on a connection that is kept
                self._drop(len(data))
        elif self._reading is _Reading.NOTHING and not self._is_answering():
            self._begin_headers()
        self._header_bytes = self._header_bytes + len(data) if self._reading is _Reading.HEADERS else 0
        super().data_received(data)
        if self._reading is _Reading.HEADERS and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Start the clock of the headers."""
        if self._reading is not _Reading.HEADERS:
            self._begin_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse headers that came in one piece and are too large or too many; then begin the body."""
        self._reading = _Reading.BODY
        self._since = self._body_began = self.loop.time()
        self._body_bytes = self._dropped_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(431)
            return
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Ignore what follows a refusal."""
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock; what takes time now is ours."""
        self._reading = _Reading.NOTHING
        if self.cycle is not None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Note when the client stopped taking its answer."""
        self._write_paused_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Forget it again."""
        self._write_paused_at = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release whoever waits for this connection to take more."""
        self._write_paused_at = None
        super().connection_lost(exc)

    def is_overdue(self) -> bool:
        """Tell whether the client has been given all the time it gets."""
        now = self.loop.time()
        if self._write_paused_at is not None and now - self._write_paused_at > self.write_seconds:
            return True
        if self._reading is _Reading.HEADERS:
            return now - self._since > self.header_seconds
        # A body that nobody reads at the moment is late through us.
        if self._reading is not _Reading.BODY or self.flow.read_paused:
            return False
        beyond_grace = now - self._body_began - self.body_grace_seconds
        return now - self._since > self.body_seconds or self._body_bytes < beyond_grace * self.least_bytes_per_second

    def cut_off(self) -> None:
        """End an overdue connection, with a 408 where no answer has begun."""
        if self._write_paused_at is not None or (self._is_answering() and self.cycle.response_started):
            self.transport.abort()
        elif self._reading is _Reading.HEADERS and self._header_bytes == 0:
            self.transport.close()  # nothing was ever asked
        else:
            self._refuse(408)

    def shutdown(self) -> None:
        """Let the client know that the process stops: in the answer that it waits for, or in its next one.

        A connection that is closed between two requests takes the one down that is on its way. RFC 9110
        section 15.5.9 knows an answer that nobody asked for: a client throws it away with the connection,
        or takes it for the answer to the request that crossed it, which is true.
        """
        self._is_ending = True
        self.linger_idle_seconds = self.farewell_seconds
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(self.farewell_seconds, self._end_unasked)

    def give_up(self) -> None:
        """Answer 503 to what has no answer yet; the process stops now."""
        if self._is_answering() and self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(503)

    def _end_unasked(self) -> None:
        is_asking = self._is_answering() or (self._reading is _Reading.HEADERS and self._header_bytes > 0)
        if not is_asking:
            self._refuse(503)

    def _linger(self) -> bool:
        """Begin to drop what still comes, where a request is on its way; False where the connection may close."""
        if self._is_lingering or not (self._is_refused or self._reading is _Reading.BODY or self.pipeline):
            return False
        self._reading = _Reading.NOTHING
        self._is_lingering = True
        self._since = self.loop.time()
        self._lingers_until = self._since + self.linger_seconds
        self.flow.resume_reading()
        self._linger_on()
        return True

    def _linger_on(self) -> None:
        """Look again when the client may have gone quiet for long enough."""
        now, until = self.loop.time(), min(self._since + self.linger_idle_seconds, self._lingers_until)
        if self in self.connections and now < until:
            self.loop.call_later(until - now, self._linger_on)
        else:
            self.transport.abort()  # a no-op once the client has gone

    def _drop(self, size: int) -> None:
        self._since = self.loop.time()
        self._dropped_bytes += size
        if self._dropped_bytes > self.linger_bytes:
            self.transport.abort()

    def send_400_response(self, _msg: str) -> None:
        """Answer what is no HTTP with a problem instead of a line of text."""
        self._refuse(400)

    def _begin_headers(self) -> None:
        self._reading = _Reading.HEADERS
        self._since = self.loop.time()
        self._header_bytes = 0

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        self._is_refused = True
        body = _REFUSALS[status]
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self.transport.write(
            b"%scontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n%s"
            % (STATUS_LINE[status], len(body), retry, body)
        )
        self.transport.close()


# Below HTTP's requests there is no request_id yet.
_REFUSALS = {
    400: make_problem(400, "Not HTTP", "malformed_request", "send HTTP/1.1", ""),
    408: make_problem(408, "Too slow", "request_timeout", "the request took too long to arrive", ""),
    431: make_problem(431, "Headers too large", "headers_too_large", "send at most 100 headers of 32 KiB in all", ""),
    503: make_problem(
        503, "Try again later", "stopping", "this process stops: send the request again, with its Idempotency-Key", ""
    ),
}


def list_overdue(connections: set[Any]) -> list[BoundedProtocol]:
    """Return every connection that is overdue."""
    return [one for one in connections if isinstance(one, BoundedProtocol) and one.is_overdue()]
