"""Has large bodies prepared in a process of its own, so that none of it holds up the event loop of this one.

Decoding and sealing 29 MB holds the interpreter for tens of milliseconds at a time, whichever thread
does it. The process is started by the first large body. It has no database and no secrets; each order
brings the keys that it takes, over a socket that only the two processes have.
"""

import asyncio
import contextlib
import mmap
import os
import socket
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import msgspec

from email_gateway.api.bodies import LargeBody
from email_gateway.api.preparing import Order
from email_gateway.api.problems import UnsupportedMediaType
from email_gateway.api.rendering import TemplatesNeeded
from email_gateway.errors import CallerError, Fault, InvalidRequest, Overloaded
from email_gateway.observe import get_logger
from email_gateway.settings import environ_of
from email_gateway.store.accepting import NewRequest
from email_gateway.vault.tenant_keys import TenantKeys

log = get_logger(__name__)

# The largest body takes a tenth of a second; what takes this long is stuck.
PATIENCE = timedelta(seconds=60)
LENGTH_OCTETS = 4
# What an interpreter may need to start; no setting and no credential is among it.
INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")
COMMAND = (sys.executable, "-P", "-m", "email_gateway.api.preparer_process")


class Work(msgspec.Struct, frozen=True):
    """What the process is sent beside the body's file: how to read it, and what the tenant's keys are made from."""

    order: Order
    tenant_id: UUID
    field_material: bytes
    index_materials: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Work({self.order!r})"


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A NewRequest stands in the file that came with this."""

    size: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The caller must change something."""

    code: str
    detail: str
    faults: tuple[Fault, ...]


class Needed(msgspec.Struct, frozen=True, tag="needed"):
    """The body names templates, each so many times: send the order again with them."""

    names: dict[str, int]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A mistake of ours, by the name of its class: what it says might quote the body."""

    reason: str


Answer = Done | Refused | Needed | Failed
ENCODE = msgspec.msgpack.Encoder().encode
_ANSWER = msgspec.msgpack.Decoder(Answer)
_REQUEST = msgspec.msgpack.Decoder(NewRequest)


class Preparer:
    """The process, from the first large body on; one that ended is started again by the next."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def prepare(self, order: Order, keys: TenantKeys, body: LargeBody) -> NewRequest:
        """Return what is stored of a request; its large values stand in memory that is given back with them.

        Raises as `preparing.prepare` does, and Overloaded when the process ended over it.
        """
        work = Work(order, keys.tenant_id, keys.field_key.material, tuple(key.material for key in keys.index_keys))
        async with self._turn:
            connection = self._connect()
            try:
                answer, fd = await asyncio.to_thread(_exchange, connection, ENCODE(work), body.fd)
            except BaseException as error:  # cancelled too: whatever it answers now is nobody's
                self.close()
                if not isinstance(error, OSError):
                    raise
                log.error("preparer_lost", error=type(error).__name__)
                raise Overloaded("the process for large messages ended: try again") from None
        return _read(answer, fd)

    def close(self) -> None:
        """End the process; the next large body starts another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _connect(self) -> socket.socket:
        """Return the way to the process, which is started where there is none. On the main thread only."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._socket is None:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._process = subprocess.Popen(
                        [*COMMAND, str(theirs.fileno())],
                        env=environ_of(INHERITED),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,  # Ctrl-C is for us
                    )
                except OSError as error:
                    ours.close()
                    log.error("preparer_not_started", error=error.strerror)
                    raise Overloaded("the process for large messages cannot be started: try again") from None
            ours.settimeout(PATIENCE.total_seconds())
            self._socket = ours
        return self._socket


def send(connection: socket.socket, message: bytes, *fds: int) -> None:
    """Send a message with its length before it, and files with the first octets."""
    socket.send_fds(connection, [len(message).to_bytes(LENGTH_OCTETS, "big")], list(fds))
    connection.sendall(message)


def receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """Return a message and the file that came with it; raises ConnectionError at the end of the stream."""
    head, fds, _, _ = socket.recv_fds(connection, LENGTH_OCTETS, 1)
    fd = fds[0] if fds else None
    try:
        size = int.from_bytes(head + _receive_all(connection, LENGTH_OCTETS - len(head)), "big")
        return _receive_all(connection, size), fd
    except OSError:
        if fd is not None:
            os.close(fd)
        raise


def _receive_all(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(size)
        if not part:
            raise ConnectionError("the stream ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _exchange(connection: socket.socket, work: bytes, body: int) -> tuple[Answer, int | None]:
    send(connection, work, body)
    answer, fd = receive(connection)
    return _ANSWER.decode(answer), fd


def _read(answer: Answer, fd: int | None) -> NewRequest:
    if isinstance(answer, Refused):
        raise _refusal(answer.code, answer.detail, answer.faults)
    if isinstance(answer, Needed):
        raise TemplatesNeeded(answer.names)
    if isinstance(answer, Failed) or fd is None:
        reason = answer.reason if isinstance(answer, Failed) else "no file came"
        raise RuntimeError(f"a large message could not be prepared: {reason}")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        # Its values are views of this memory, and keep it.
        return _REQUEST.decode(mmap.mmap(fd, answer.size, prot=mmap.PROT_READ))


def _refusal(code: str, detail: str, faults: tuple[Fault, ...]) -> CallerError:
    return UnsupportedMediaType(detail) if code == UnsupportedMediaType.code else InvalidRequest(detail, faults)
