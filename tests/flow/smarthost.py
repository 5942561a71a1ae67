"""A smarthost that is told how to answer each recipient: aiosmtpd, an SMTP server of other people, in a thread."""

import asyncio
import collections
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from bench.gateway import free_port

# Servers echo the address, and so do these answers: it must not be stored or logged in clear.
ACCEPTED = "250 2.1.5 <{address}> recipient ok"
REFUSED = "550 5.1.1 <{address}>: Recipient address rejected: {address} is unknown here"
GREYLISTED = "451 4.7.1 <{address}>: greylisted, {address} may try again in 5 minutes"
USER = "gateway"
DROPPED = "drop"  # take the message, and then close the connection instead of answering the dot


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that the smarthost took."""

    recipients: tuple[str, ...]
    content: bytes


class Smarthost:
    """Answers each RCPT as told, 250 otherwise, and keeps what it takes."""

    def __init__(self, port: int) -> None:
        self._password = secrets.token_urlsafe(24)
        self.url = f"smtp://{USER}:{self._password}@127.0.0.1:{port}?tls=none"
        self.mails: list[Mail] = []
        self._answers: dict[str, collections.deque[str]] = {}
        self._doomed: set[str] = set()  # whose message will be taken and not answered

    def answer(self, address: str, *answers: str) -> None:
        """Give this recipient these answers in turn; the last one stays."""
        self._answers[address] = collections.deque(answers)

    def mails_to(self, address: str) -> list[bytes]:
        """List the messages that this recipient was sent."""
        return [mail.content for mail in self.mails if address in mail.recipients]

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        """Let in who knows the password of `url`."""
        return AuthResult(success=given == LoginPassword(USER.encode(), self._password.encode()))

    def _next(self, address: str) -> str:
        answers = self._answers.get(address, collections.deque([ACCEPTED]))
        return answers.popleft() if len(answers) > 1 else answers[0]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self._next(address)
        if answer == DROPPED:
            self._doomed.add(address)
            answer = ACCEPTED
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer.format(address=address)

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(Mail(tuple(envelope.rcpt_tos), content))
        if doomed := self._doomed.intersection(envelope.rcpt_tos):
            self._doomed -= doomed
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return f"250 2.0.0 queued for {envelope.rcpt_tos[0]}"


@contextlib.contextmanager
def smarthost_running() -> Iterator[Smarthost]:
    """Run a smarthost on a free port of loopback."""
    port = free_port()
    smarthost = Smarthost(port)
    controller = Controller(
        smarthost,
        hostname="127.0.0.1",
        port=port,
        enable_SMTPUTF8=True,
        authenticator=smarthost.authenticate,
        auth_required=True,
        auth_require_tls=False,  # nothing leaves this machine
    )
    controller.start()
    try:
        yield smarthost
    finally:
        controller.stop()
