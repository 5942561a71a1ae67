"""SMTP servers for tests: one that follows a script of misbehaviour and keeps receipts of what it took.

Each verb (CONNECT, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, BODY, DOT, RSET, QUIT) may be given a
`Behaviour`, or a list of them that is used up one by one; without one the server behaves. BODY is
what happens when the first octets of a message arrive.
"""

import asyncio
import re
import ssl
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self


class Quirk(Enum):
    """Silence, or a closed connection, in place of a reply."""

    HANG = "hang"
    DROP = "drop"


HANG, DROP = Quirk.HANG, Quirk.DROP


class Say(NamedTuple):
    """These octets instead of the reply; and then the connection closes, if so wished."""

    octets: bytes
    close: bool = False


class Drip(NamedTuple):
    """These octets one by one, with a pause after each."""

    octets: bytes
    pause: float


Behaviour = Quirk | Say | Drip
Script = Mapping[str, Behaviour | list[Behaviour]]

KEYWORDS = ("SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES")
PIPELINED = (*KEYWORDS, "PIPELINING")

GOODBYE = Say(b"421 4.3.2 closing\r\n", close=True)
# Every end of data that some server was ever seen to accept.
ANY_END = re.compile(rb"(?:\A|\r\n|\n|\r)\0?\.\0?(?:\r\n|\n|\r)\0?")
LONGEST_END = 8
ANY_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Receipt:
    """One message the server took responsibility for; `data` is without the dots that stuffing added."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    is_encrypted: bool
    user: str | None


@dataclass(frozen=True)
class Heard:
    """One command line as it came."""

    line: bytes
    is_encrypted: bool


@dataclass
class SmtpServer:
    """A server on a free port of loopback; use it as an async context manager.

    `unknown` addresses are refused with a 550 that repeats them, others as `refused` says. `lenient`
    ends lines and data at every variant that real servers accept. `tls` offers STARTTLS, or with
    `is_implicit` speaks TLS from the start. `users` offers AUTH by `mechanisms`. `takes_empty` asks for
    a message that is for nobody. `reads_one` forgets what came in one piece with a command, as servers
    do that offer PIPELINING and do not bear it; `pieces` are what clients wrote, as it arrived.
    """

    script: Script = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    refused: Mapping[str, bytes] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    is_implicit: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN"
    keywords: tuple[str, ...] = KEYWORDS
    lenient: bool = False
    takes_empty: bool = False
    reads_one: bool = False
    receipts: list[Receipt] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._turns = {verb: iter(each) for verb, each in self.script.items() if isinstance(each, list)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        context = self.tls if self.is_implicit else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def behaviour(self, verb: str) -> Behaviour | None:
        """Return what the script has for this verb now, using it up if it is one of a list."""
        if verb in self._turns:
            return next(self._turns[verb], None)
        wanted = self.script.get(verb)
        assert not isinstance(wanted, list)  # or it had turns
        return wanted

    def verbs(self) -> list[str]:
        """The verbs heard so far, in order."""
        return [heard.line.split(b" ")[0].decode("ascii", errors="replace").upper() for heard in self.heard]

    async def has_heard(self, verb: str) -> None:
        """Wait until this verb has been heard."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: verb in self.verbs())

    async def hear(self, line: bytes, *, is_encrypted: bool) -> None:
        """Note a line and wake whoever waits for it."""
        self.heard.append(Heard(line, is_encrypted))
        async with self._news:
            self._news.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await _Session(self, reader, writer).run()
        except (Gone, OSError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class Gone(Exception):
    """The client closed, or the script did."""


class _Session:
    """One client's connection."""

    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._is_encrypted = server.is_implicit
        self._user: str | None = None
        self._sender = ""
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._reply("CONNECT", b"220 test.example ESMTP\r\n")
        while True:
            line = await self._read_line()
            if self._server.lenient and not line:
                continue
            await self._server.hear(line, is_encrypted=self._is_encrypted)
            verb, _, argument = line.partition(b" ")
            handle = getattr(self, f"_on_{verb.decode('ascii', errors='replace').lower()}", None)
            if handle is None:
                await self._write(b"500 5.5.1 what?\r\n")
            else:
                await handle(argument)

    async def _on_ehlo(self, argument: bytes) -> None:
        keywords = list(self._server.keywords)
        if self._server.tls and not self._is_encrypted:
            keywords.append("STARTTLS")
        if self._server.users:
            keywords.append(f"AUTH {self._server.mechanisms}")
        lines = ["test.example", *keywords]
        text = "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines)
        await self._reply("EHLO", text.encode())

    async def _on_helo(self, argument: bytes) -> None:
        await self._reply("HELO", b"250 test.example\r\n")

    async def _on_starttls(self, argument: bytes) -> None:
        if not await self._reply("STARTTLS", b"220 2.0.0 go ahead\r\n") or self._server.tls is None:
            return
        self._buffer = b""
        await self._writer.start_tls(self._server.tls)
        self._is_encrypted = True

    async def _on_auth(self, argument: bytes) -> None:
        mechanism, _, initial = argument.partition(b" ")
        if mechanism == b"XOAUTH2":
            await self._check_token(initial)
            return
        if mechanism == b"PLAIN":
            response = initial or await self._challenge(b"334 \r\n")
            _, user, password = b64decode(response).split(b"\0")
        else:
            user = b64decode(await self._challenge(b"334 VXNlcm5hbWU6\r\n"))
            password = b64decode(await self._challenge(b"334 UGFzc3dvcmQ6\r\n"))
        if self._server.users.get(user.decode()) != password.decode():
            await self._reply("AUTH", b"535 5.7.8 wrong password of " + user + b"\r\n")
        elif await self._reply("AUTH", b"235 2.7.0 welcome\r\n"):
            self._user = user.decode()

    async def _check_token(self, initial: bytes) -> None:
        named = re.fullmatch(rb"user=(.*)\x01auth=Bearer (.*)\x01\x01", b64decode(initial))
        assert named
        user, token = (part.decode() for part in named.groups())
        if self._server.users.get(user) == token:
            await self._reply("AUTH", b"235 2.7.0 welcome\r\n")
            self._user = user
        else:  # as Google has it: the reason as a challenge, and the refusal once that is answered
            assert await self._challenge(b"334 eyJzdGF0dXMiOiI0MDAifQ==\r\n") == b""
            await self._reply("AUTH", b"535 5.7.8 Username and Password not accepted, " + user.encode() + b"\r\n")

    async def _challenge(self, octets: bytes) -> bytes:
        await self._write(octets)
        line = await self._read_line()
        await self._server.hear(line, is_encrypted=self._is_encrypted)
        return line

    async def _on_mail(self, argument: bytes) -> None:
        if self._server.users and not self._user:
            await self._write(b"530 5.7.0 authentication required\r\n")
        elif self._sender:
            await self._write(b"503 5.5.1 nested MAIL\r\n")
        elif await self._reply("MAIL", b"250 2.1.0 ok\r\n"):
            self._sender = _path(argument)

    async def _on_rcpt(self, argument: bytes) -> None:
        address = _path(argument)
        if not self._sender:
            await self._write(b"503 5.5.1 need MAIL\r\n")
        elif address in self._server.refused:
            await self._write(self._server.refused[address])
        elif address in self._server.unknown:
            await self._write(f"550 5.1.1 <{address}>: recipient address rejected: no such user\r\n".encode())
        elif await self._reply("RCPT", b"250 2.1.5 ok\r\n"):
            self._recipients.append(address)

    async def _on_data(self, argument: bytes) -> None:
        if not self._recipients and not self._server.takes_empty:
            await self._write(b"554 5.5.1 no valid recipients\r\n")
            return
        if not await self._reply("DATA", b"354 go ahead\r\n"):
            return
        if "BODY" in self._server.script:
            self._buffer += await self._reader.read(1)
            await self._reply("BODY", b"")
        data = await self._read_data()
        receipt = Receipt(self._sender, tuple(self._recipients), data, self._is_encrypted, self._user)
        self._forget()
        if await self._reply("DOT", b"250 2.0.0 queued\r\n"):
            self._server.receipts.append(receipt)

    async def _on_rset(self, argument: bytes) -> None:
        if await self._reply("RSET", b"250 2.0.0 ok\r\n"):
            self._forget()

    async def _on_quit(self, argument: bytes) -> None:
        await self._reply("QUIT", b"221 2.0.0 bye\r\n")
        raise Gone

    def _forget(self) -> None:
        self._sender, self._recipients = "", []

    async def _reply(self, verb: str, good: bytes) -> bool:
        """Say what the script has for this verb, else `good`; whether it begins with the code of `good`."""
        match self._server.behaviour(verb):
            case None:
                await self._write(good)
                return True
            case Quirk.HANG:
                await asyncio.Event().wait()
            case Quirk.DROP:
                raise Gone
            case Say(octets, close):
                await self._write(octets)
                if close:
                    raise Gone
                return octets[:3] == good[:3]
            case Drip(octets, pause):
                for octet in octets:
                    await self._write(bytes([octet]))
                    await asyncio.sleep(pause)
                return octets[:3] == good[:3]
        return False

    async def _write(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def _read_line(self) -> bytes:
        ends = ANY_LINE_END if self._server.lenient else re.compile(rb"\r\n")
        line = (await self._read_until(ends))[0]
        if self._server.reads_one:
            self._buffer = b""
        return line

    async def _read_data(self) -> bytes:
        if self._server.lenient:
            return (await self._read_until(ANY_END))[0]
        data, _ = await self._read_until(re.compile(rb"(?:\A|\r\n)\.\r\n"))
        return re.sub(rb"(\A|\r\n)\.", rb"\1", data + b"\r\n")

    async def _read_until(self, pattern: re.Pattern[bytes]) -> tuple[bytes, bytes]:
        seen = 0
        while (match := pattern.search(self._buffer, seen)) is None:
            octets = await self._reader.read(65536)
            if not octets:
                raise Gone
            self._server.pieces.append(octets)
            seen = max(0, len(self._buffer) - LONGEST_END)
            self._buffer += octets
        before, self._buffer = self._buffer[: match.start()], self._buffer[match.end() :]
        return before, match[0]


def _path(argument: bytes) -> str:
    match = re.search(rb"<([^>]*)>", argument)
    return match[1].decode(errors="replace") if match else ""
