"""One TCP connection that speaks lines: octets out, replies in, TLS in between. It knows no SMTP verb."""

import asyncio
import ssl
import time
from typing import Self, cast

from email_gateway.delivery.connecting import connect_first, find_addresses
from email_gateway.delivery.reply_parser import BadReply, Reply, ReplyParser

# Nobody speaks this far beyond what was asked; a server that does is cut off before it fills memory.
MAX_UNREAD_REPLIES = 8
POLL_SECONDS = 0.005


class WireBroken(Exception):
    """The connection is of no more use; `reason` is connection_lost, timeout or protocol_error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Wire(asyncio.Protocol):
    """A connection to a server. Whatever goes wrong breaks it for good: it is aborted at once."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._loop = asyncio.get_running_loop()
        self._replies: list[Reply] = []
        self.owed = 1  # replies that were asked for and have not been read; the greeting comes unasked
        self._socket: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_upgrading = False
        self._broken: str | None = None
        self._until = 0.0  # when the wait under way ends, on the loop's clock
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    @classmethod
    async def open(cls, host: str, port: int, seconds: float) -> Self:
        """Connect to the first address that answers; raises WireBroken (timeout, connect_failed)."""
        try:
            async with asyncio.timeout(seconds):
                return await connect_first(await find_addresses(host, port), cls)
        except TimeoutError:
            raise WireBroken("timeout") from None
        except (OSError, UnicodeError):  # a label that IDNA refuses is a UnicodeError
            raise WireBroken("connect_failed") from None

    @property
    def is_broken(self) -> bool:
        return self._broken is not None or self._transport is None or self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing that was not asked for."""
        return not self._replies and self._parser.is_empty and self._broken != "protocol_error"

    @property
    def is_orderly(self) -> bool:
        """Whether what is unread beyond what is owed, if anything, is the server's goodbye (RFC 5321 section 3.8)."""
        unread = len(self._replies)
        if unread < self.owed:
            return True
        if self._broken == "protocol_error" or not self._parser.is_empty:
            return False
        return unread == self.owed or all(reply.is_closing for reply in self._replies[self.owed :])

    @property
    def is_stalled(self) -> bool:
        """Whether something that was written has not been taken by the kernel yet."""
        return self._is_paused or self._is_stalled_below_tls

    @property
    def local_address(self) -> str | None:
        name = self._socket.get_extra_info("sockname") if self._socket else None
        return cast("str", name[0]) if name else None

    def take_unread(self) -> Reply | None:
        """Return a reply that has arrived already, if any."""
        return self._replies.pop(0) if self._replies else None

    async def read_reply(self, seconds: float) -> Reply:
        """Return the next reply; raises WireBroken when none is complete within `seconds`."""
        if not self._replies:
            await self._wait_for_reply(seconds)
        if self.owed:
            self.owed -= 1
        return self._replies.pop(0)

    async def _wait_for_reply(self, seconds: float) -> None:
        self._reading = self._loop.create_future()
        try:
            await self._wait(self._reading, seconds)
        finally:
            self._reading = None
        if not self._replies:
            raise WireBroken(self._broken or "connection_lost")

    def write(self, octets: bytes | memoryview, *, owed: int = 0) -> None:
        """Queue octets for the server, which owes so many replies to them; raises WireBroken when it is gone."""
        if self.is_broken:
            raise WireBroken(self._broken or "connection_lost")
        assert self._transport is not None  # or it were broken
        self.owed += owed
        self._transport.write(octets)

    async def flush(self, seconds: float) -> None:
        """Wait until everything written is with the kernel."""
        until = time.monotonic() + seconds
        if self._is_paused:
            self._writing = self._loop.create_future()
            try:
                await self._wait(self._writing, seconds)
            finally:
                self._writing = None
        while not self.is_broken and self._is_stalled_below_tls:
            if time.monotonic() >= until:
                self._break("timeout")
            await asyncio.sleep(POLL_SECONDS)
        if self.is_broken:
            raise WireBroken(self._broken or "connection_lost")

    @property
    def _is_stalled_below_tls(self) -> bool:
        """Whether records wait under the TLS layer, which tells nobody when they have left."""
        below = self._socket if self._socket is not self._transport else None
        return below is not None and below.get_write_buffer_size() > 0

    async def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Encrypt from here on; raises WireBroken (certificate_invalid, tls_failed, timeout).

        Nothing the server sent in clear survives: with octets of its already here the upgrade is
        refused as a protocol error (response injection, CVE-2011-0411).
        """
        if self.is_broken or not self.is_quiet:
            self._break("protocol_error")
            raise WireBroken(self._broken or "protocol_error")
        assert self._transport is not None
        self._is_upgrading = True
        try:
            async with asyncio.timeout(seconds):
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport, self, context, server_hostname=host, ssl_handshake_timeout=seconds + 1
                )
        except TimeoutError:
            reason = "timeout"
        except ssl.SSLCertVerificationError:
            reason = "certificate_invalid"
        except (OSError, ssl.SSLError):
            reason = "tls_failed"
        else:
            reason = "tls_failed" if transport is None else ""
            self._transport = transport
        finally:
            self._is_upgrading = False
        if reason:
            self._break(reason)
            raise WireBroken(reason)
        self._watch_buffers()

    def abort(self) -> None:
        """Drop the connection now; nothing still buffered is sent."""
        self._break("connection_lost")

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = self._transport = cast("asyncio.Transport", transport)
        self._watch_buffers()

    def data_received(self, data: bytes) -> None:
        if self._broken is not None:
            return
        try:
            self._parser.feed(data, self._replies)
        except BadReply:
            self._break("protocol_error")
        if len(self._replies) > self.owed + MAX_UNREAD_REPLIES:
            self._break("protocol_error")
        if self._replies:
            _wake(self._reading)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_upgrading:  # else the handshake reports its own reason
            self._break("connection_lost")

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        _wake(self._writing)

    def _watch_buffers(self) -> None:
        # `flush` must mean that nothing is left in this process: a dot queued behind a stalled body
        # would leave long after its deadline was checked.
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high=0)
        if self._transport is not None and self._transport is not self._socket:
            # With 0 the TLS layer pauses on an empty buffer and nothing resumes it.
            self._transport.set_write_buffer_limits(high=1, low=0)

    async def _wait(self, future: "asyncio.Future[None]", seconds: float) -> None:
        """Wait until the future is done or the wire breaks, by itself or after `seconds`.

        One alarm serves many waits: it is set for the first of them, and moved on when it rings early.
        """
        if self._broken is not None:
            return
        self._until = self._loop.time() + seconds
        if self._alarm is None or self._alarm_at > self._until:
            self._set_alarm(seconds)
        await future

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = self._loop.time() + seconds
        self._alarm = self._loop.call_later(max(0.0, seconds), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._reading is None and self._writing is None:
            return
        left = self._until - self._loop.time()
        if left > 0:
            self._set_alarm(left)
        else:
            self._break("timeout")

    def _break(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for transport in (self._transport, self._socket):
            if transport is not None:
                transport.abort()
        _wake(self._reading)
        _wake(self._writing)


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)
