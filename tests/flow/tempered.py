"""A smarthost with a temper, in a thread: it counts, throttles, hangs, forgets passwords and goes away when told."""

import asyncio
import contextlib
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.gateway import free_port

USER = "gateway"
THROTTLED = b"454 Throttling failure: Maximum sending rate exceeded.\r\n"  # as Amazon SES says it
TOO_MANY = b"452 4.5.3 too many recipients\r\n"
WRONG_LOGIN = b"535 5.7.8 authentication failed\r\n"
_ADDRESS = re.compile(rb"<([^>]*)>")
_ID = re.compile(rb"(?mi)^message-id:[ \t]*<([^>@]+)")


class Bucket:
    """Takes `rate` mails a second, and up to `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._level, self._at = min(self._burst, self._level + (now - self._at) * self._rate), now
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass(frozen=True)
class Taken:
    """A mail that this server took responsibility for, and when on the monotonic clock."""

    at: float
    message_id: str
    recipients: tuple[str, ...]


@dataclass
class Temper:
    """How the server behaves now; change it while it runs.

    `at_dot` returns the answer to the dot (None: the mail is taken), asked in the server's thread.
    """

    at_dot: Callable[[tuple[str, ...]], bytes | None] = lambda _recipients: None
    at_mail: Callable[[], bytes | None] = lambda: None
    most_recipients: int = 1000
    hanging: frozenset[str] = frozenset()  # domains whose RCPT is never answered
    silent_dot: bool = False  # take the mail and wait with the answer until this is over
    closing_dot: bool = False  # take the mail, and close instead of answering
    password: str = "the-right-password"


@dataclass
class Tempered:
    """The server as tests see it."""

    port: int
    temper: Temper = field(default_factory=Temper)
    taken: list[Taken] = field(default_factory=list)
    commands: int = 0
    refusals: int = 0
    logins: list[float] = field(default_factory=list)
    needs_login: bool = False
    connections: set["Conversation"] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        credentials = f"{USER}:{self.temper.password}@" if self.needs_login else ""
        return f"smtp://{credentials}127.0.0.1:{self.port}?tls=none"

    def ids(self) -> list[str]:
        """List the messages taken, once for each time."""
        return [taken.message_id for taken in self.taken]

    def release(self) -> None:
        """Answer 250 to every dot that waits for its answer."""
        self.temper.silent_dot = False
        self.loop.call_soon_threadsafe(self._answer_all)

    def _answer_all(self) -> None:
        for one in list(self.connections):
            one.answer_dot()

    def waiting_at_dot(self) -> int:
        """Count the conversations whose dot has no answer yet."""
        return sum(one.is_at_dot for one in list(self.connections))

    def leave(self) -> None:
        """Stop listening and cut every connection."""
        asyncio.run_coroutine_threadsafe(self._leave(), self.loop).result(10)

    def come_back(self) -> None:
        """Listen again on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    async def _listen(self) -> None:
        self.server = await self.loop.create_server(lambda: Conversation(self), "127.0.0.1", self.port, backlog=1024)

    async def _leave(self) -> None:
        assert self.server is not None
        self.server.close()
        for one in list(self.connections):
            one.cut()


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, owner: Tempered) -> None:
        self._owner = owner
        self._rest = b""
        self._is_in_data = False
        self.is_at_dot = False
        self._recipients: list[str] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.connections.add(self)
        transport.write(b"220 tempered\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connections.discard(self)

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while True:
            end = b"\r\n.\r\n" if self._is_in_data else b"\r\n"
            line, found, rest = self._rest.partition(end)
            if not found:
                return
            self._rest = rest
            if self._is_in_data:
                self._is_in_data = False
                self._take(line)
            else:
                self._obey(line)

    def _say(self, answer: bytes) -> None:
        self._owner.commands += 1
        self._owner.refusals += answer[:1] in (b"4", b"5")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)

    def _obey(self, line: bytes) -> None:
        verb = line[:4].upper()
        temper = self._owner.temper
        match verb:
            case b"EHLO":
                self._say(b"250-tempered\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n")
            case b"AUTH":
                self._owner.logins.append(time.monotonic())
                given = b64decode(line.split()[-1]).split(b"\0")[-1].decode()
                self._say(b"235 2.7.0 ok\r\n" if given == temper.password else WRONG_LOGIN)
            case b"MAIL":
                self._recipients = []
                self._say(temper.at_mail() or b"250 2.1.0 ok\r\n")
            case b"RCPT":
                self._name(line)
            case b"DATA":
                self._is_in_data = True
                self._say(b"354 go on\r\n")
            case b"QUIT":
                self._say(b"221 2.0.0 bye\r\n")
                self.cut()
            case _:
                self._say(b"250 2.0.0 ok\r\n")

    def _name(self, line: bytes) -> None:
        found = _ADDRESS.search(line)
        address = found[1].decode() if found else ""
        if address.rpartition("@")[2] in self._owner.temper.hanging:
            return
        if len(self._recipients) >= self._owner.temper.most_recipients:
            self._say(TOO_MANY)
            return
        self._recipients.append(address)
        self._say(b"250 2.1.5 ok\r\n")

    def _take(self, data: bytes) -> None:
        recipients = tuple(self._recipients)
        if refusal := self._owner.temper.at_dot(recipients):
            self._say(refusal)
            return
        found = _ID.search(data)
        self._owner.taken.append(Taken(time.monotonic(), found[1].decode() if found else "", recipients))
        if self._owner.temper.closing_dot:
            self.cut()
            return
        self.is_at_dot = True
        if not self._owner.temper.silent_dot:
            self.answer_dot()

    def answer_dot(self) -> None:
        if self.is_at_dot:
            self.is_at_dot = False
            self._say(b"250 2.0.0 taken\r\n")


@contextlib.contextmanager
def tempered_running(*, needs_login: bool = False) -> Iterator[Tempered]:
    """Run such a server on a free port of loopback, in a thread of its own."""
    server = Tempered(free_port(), needs_login=needs_login)
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    server.come_back()
    try:
        yield server
    finally:
        server.leave()
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(5)


def throttling(rate: float, burst: float) -> Callable[[tuple[str, ...]], bytes | None]:
    """Return an answer to the dot that takes so many mails a second."""
    bucket = Bucket(rate, burst)
    return lambda _recipients: None if bucket.take() else THROTTLED
