"""What the tests of this room send, and a recorder of how far each attempt came."""

import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.pool import PoolLimits
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import SmtpTarget, Timeouts, parse_smtp_url
from email_gateway.mail.deliveries import Claim, Claims, Phase
from tests.smtp_servers import SmtpServer

BRIEF = timedelta(milliseconds=150)
# Long enough for an answer over loopback on a busy machine, for every verb that is not to time out.
PATIENT = timedelta(seconds=20)
RAW = b"From: billing@acme.example\r\nSubject: Invoice\r\n\r\nDue on Friday.\r\n"


def claims_for(count: int = 1) -> Claims:
    """Claims of one message to `count` recipients."""
    tenant_id, message_id = uuid.uuid4(), uuid.uuid4()
    now = datetime.now(UTC)
    return Claims(
        tenant_id=tenant_id,
        message_id=message_id,
        created_at=now,
        expires_at=now + timedelta(days=1),
        on_doubt="resend",
        sealed=None,
        attachment_count=0,
        each=tuple(Claim(tenant_id, message_id, n, "example.net", uuid.uuid4(), 1) for n in range(count)),
    )


def outgoing(*recipients: str, raw: bytes = RAW, sender: str = "billing@acme.example") -> OutgoingMail:
    """A mail to these recipients, or to one."""
    recipients = recipients or ("maria@example.net",)
    return OutgoingMail(claims_for(len(recipients)), sender, recipients, raw)


class Recorder:
    """Stands for the queue: keeps the phases reported and for how many claims; may raise or have run out."""

    def __init__(self, *, error: Exception | None = None, at: Phase = Phase.DOT_PENDING, lease: float = 60.0) -> None:
        self.phases: list[tuple[Phase, int]] = []
        self._error = error
        self._at = at
        self._lease = lease

    async def __call__(self, claims: Claims, phase: Phase) -> float:
        self.phases.append((phase, len(claims)))
        if self._error is not None and phase is self._at:
            raise self._error
        return time.monotonic() + self._lease

    @property
    def is_past_dot(self) -> bool:
        return any(phase is Phase.DOT_PENDING for phase, _ in self.phases)


def target_of(server: SmtpServer, tls: str = "none", user: str = "") -> SmtpTarget:
    return parse_smtp_url(f"smtp://{user}127.0.0.1:{server.port}?tls={tls}")


@asynccontextmanager
async def transport_to(
    server: SmtpServer,
    tls: str = "none",
    *,
    user: str = "",
    timeouts: Timeouts | None = None,
    limits: PoolLimits | None = None,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[SmtpTransport]:
    """A transport to this server; `user` is `name:password@`."""
    target = target_of(server, tls, user)
    transport = SmtpTransport(lambda: target, timeouts=timeouts, limits=limits, trust=trust)
    try:
        yield transport
    finally:
        await transport.close()


@contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """An address of loopback whose queue is full: Linux drops what comes, as a dead host would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        yield address
        for filler in fillers:
            filler.close()


def refusing_address() -> tuple[str, int]:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.3", 0))
        name: tuple[str, int] = probe.getsockname()
        return name


def patience(**brief: timedelta) -> Timeouts:
    """Timeouts that no busy machine reaches, but for these."""
    steps = ("connect", "tls", "greeting", "ehlo", "auth", "mail", "rcpt", "data", "block", "dot", "reset", "quit")
    return Timeouts(**(dict.fromkeys((*steps, "attempt"), PATIENT) | brief))
