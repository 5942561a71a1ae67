"""The client's side of SMTP (RFC 5321), in lock-step: commands out, replies back.

A connection knows the protocol and nothing of deliveries: it returns replies, and raises
`ConversationFailed` when the conversation cannot go on.
"""

import re
import ssl
import time
from datetime import timedelta

from email_gateway.delivery.replies import Stage, explain
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.target import Timeouts
from email_gateway.delivery.wire import Wire, WireBroken
from email_gateway.mail.encoding import UNSAFE_IN_NAMES

BLOCK_OCTETS = 256 * 1024
MAX_SIZE_DIGITS = 20  # RFC 1870 section 3
MAX_KEYWORDS = 64
EHLO_UNKNOWN = (500, 502)  # RFC 5321 section 3.2: "command not recognized", or not implemented

# Visible ASCII without the brackets that end a path: anything else could begin a parameter or
# another command.
_ADDRESS = re.compile(r"[!-;=?-~]+")
_UTF8_ADDRESS = re.compile(r"[!-;=?-~\u00a1-\U0010ffff]+")  # RFC 6531 section 3.3
MAX_ADDRESS_OCTETS = 254  # RFC 5321 section 4.5.3.1.3, without the brackets
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")


class ConversationFailed(Exception):
    """The conversation cannot go on. `reason` is a stable word, `reply` what the server said, if it did."""

    def __init__(self, stage: Stage, reason: str, reply: Reply | None = None) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.reply = reply


class InvalidArgument(ValueError):
    """An address that cannot stand in a command; the message does not repeat it."""


class SmtpConnection:
    """A connection to one server; `opening.open_connection` makes it ready for mail.

    `until` is the monotonic time at which the attempt it serves ends: every wait before the final
    dot stops there.
    """

    def __init__(self, wire: Wire, timeouts: Timeouts, until: float) -> None:
        self._wire = wire
        self._timeouts = timeouts
        self._is_closing = False
        self._is_in_data = False
        self._needs_reset = False
        self._sends_utf8 = False
        self.until = until
        self.capabilities: dict[str, str] = {}
        self.is_encrypted = False
        self.messages = 0

    @property
    def is_reusable(self) -> bool:
        """Whether another message may follow on this connection."""
        return not (self._is_closing or self._is_in_data or self._wire.is_broken) and self._wire.is_quiet

    @property
    def size_limit(self) -> int | None:
        """The largest message the server takes, if it says so; 0 says nothing (RFC 1870 section 4)."""
        declared = self.capabilities.get("SIZE", "")
        is_number = declared.isascii() and declared.isdigit() and len(declared) <= MAX_SIZE_DIGITS
        return (int(declared) or None) if is_number else None

    @property
    def offers_smtputf8(self) -> bool:
        """Whether the server takes addresses beyond ASCII (RFC 6531)."""
        return "SMTPUTF8" in self.capabilities

    @property
    def local_address(self) -> str | None:
        return self._wire.local_address

    # Before mail.

    async def read_greeting(self) -> None:
        """Read the server's first words; raises ConversationFailed unless it is ready."""
        self.require_positive(Stage.CONNECT, await self._read(Stage.CONNECT, self._timeouts.greeting))

    async def ehlo(self, name: str) -> None:
        """Introduce ourselves and learn what the server can do; what was known before is forgotten.

        A server that does not know the command is greeted with HELO and can nothing beyond it (RFC
        5321 section 3.2). Encryption or a login that must be has then to fail by its own name.
        """
        reply = await self.ask(Stage.EHLO, f"EHLO {name}".encode("ascii"), self._timeouts.ehlo)
        self.capabilities = {}
        if reply.code in EHLO_UNKNOWN:
            reply = await self.ask(Stage.EHLO, f"HELO {name}".encode("ascii"), self._timeouts.ehlo)
            self.require_positive(Stage.EHLO, reply)
            return
        self.require_positive(Stage.EHLO, reply)
        self.capabilities = parse_capabilities(reply)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Encrypt from here on; EHLO must follow, since what was said in clear may be forged."""
        try:
            await self._wire.start_tls(context, host, self._seconds(self._timeouts.tls))
        except WireBroken as broken:
            raise ConversationFailed(Stage.STARTTLS, broken.reason) from None
        self.capabilities = {}
        self.is_encrypted = True

    # Mail. Replies come back as they are; only 421, silence and nonsense raise.

    async def mail(self, sender: str, size: int, *, needs_utf8: bool = False) -> Reply:
        """Begin a transaction, clearing what an earlier one left behind.

        `needs_utf8` is for a mail with any address beyond ASCII in envelope or head, and a server that
        offers SMTPUTF8. Without BODY it says that the bodies are ASCII (RFC 6531 section 3.6).
        """
        parameters = f" SIZE={size}" if "SIZE" in self.capabilities else ""
        if needs_utf8:
            parameters += " SMTPUTF8"
        self._sends_utf8 = needs_utf8
        command = f"MAIL FROM:<{check_address(sender, takes_utf8=needs_utf8)}>{parameters}".encode()
        if self._needs_reset:
            self.require_positive(Stage.MAIL, await self.ask(Stage.MAIL, b"RSET", self._timeouts.reset))
        self._needs_reset = True
        return await self.ask(Stage.MAIL, command, self._timeouts.mail)

    async def rcpt(self, recipient: str) -> Reply:
        """Name one recipient; raises InvalidArgument for an address no command can carry."""
        command = f"RCPT TO:<{check_address(recipient, takes_utf8=self._sends_utf8)}>".encode()
        return await self.ask(Stage.RCPT, command, self._timeouts.rcpt)

    async def data(self) -> None:
        """Ask to send the message; returns once the server waits for it."""
        reply = await self.ask(Stage.DATA, b"DATA", self._timeouts.data)
        if reply.code != 354:
            self._refuse(Stage.DATA, reply)
        self._is_in_data = True

    async def send(self, data: bytes) -> None:
        """Send the message without its final dot, and see all of it off to the kernel."""
        view = memoryview(data)
        try:
            for start in range(0, len(data), BLOCK_OCTETS):
                self._wire.write(view[start : start + BLOCK_OCTETS])
                await self._wire.flush(self._seconds(self._timeouts.block))
        except WireBroken as broken:
            raise self._failed(Stage.DATA, broken) from None

    async def dot(self) -> Reply:
        """End the message and return what the server says to it.

        A ConversationFailed of stage DATA means that the dot was not written; one of stage DOT
        without a reply means that nobody can know whether the message was taken (RFC 1047).
        """
        if (early := self._wire.take_unread()) is not None:
            # Some servers refuse a message before its end, and close.
            self._is_closing = True
            self._refuse(Stage.DATA, early)
        self._require_order(Stage.DATA)
        try:
            self._wire.write(b".\r\n")
        except WireBroken as broken:
            raise ConversationFailed(Stage.DATA, broken.reason) from None
        reply = await self._read(Stage.DOT, self._timeouts.dot)
        self._is_in_data = self._needs_reset = False
        self.messages += 1
        return reply

    # The end.

    async def quit(self) -> None:
        """Say goodbye, wait a moment for the answer, and close whatever comes."""
        try:
            if self.is_reusable:
                self._wire.write(b"QUIT\r\n")
                await self._wire.read_reply(self._timeouts.quit.total_seconds())
        except WireBroken:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._wire.abort()

    # How a command is asked and answered.

    async def ask(self, stage: Stage, command: bytes, patience: timedelta) -> Reply:
        """Send one command and return its reply; 421 raises at every stage."""
        if (early := self._wire.take_unread()) is not None and early.is_closing:
            self._is_closing = True
            raise ConversationFailed(stage, "service_closing", early)
        if early is not None:
            raise self._confused(stage)
        self._require_order(stage)
        try:
            self._wire.write(command + b"\r\n")
        except WireBroken as broken:
            raise ConversationFailed(stage, broken.reason) from None
        return await self._read(stage, patience)

    def require_positive(self, stage: Stage, reply: Reply) -> None:
        """Raise ConversationFailed unless the reply is 2yz."""
        if not reply.is_positive:
            self._refuse(stage, reply)

    def _refuse(self, stage: Stage, reply: Reply) -> None:
        """Raise for a reply that ends the conversation: a refusal, or one that makes no sense here."""
        if reply.code < 400:
            raise self._confused(stage)
        raise ConversationFailed(stage, explain(stage, reply), reply)

    async def _read(self, stage: Stage, patience: timedelta) -> Reply:
        # After the dot only the dot's own patience counts: giving up early makes duplicates.
        seconds = patience.total_seconds() if stage is Stage.DOT else self._seconds(patience)
        try:
            reply = await self._wire.read_reply(seconds)
        except WireBroken as broken:
            raise self._failed(stage, broken) from None
        # What follows a reply in the same breath makes it unclear which of them is the answer.
        self._require_order(stage)
        if 300 <= reply.code < 400 and stage not in (Stage.AUTH, Stage.DATA):
            raise self._confused(stage)
        if reply.is_closing:
            self._is_closing = True
            raise ConversationFailed(stage, "service_closing", reply)
        return reply

    def _require_order(self, stage: Stage) -> None:
        if not self._wire.is_orderly:
            raise self._confused(stage)

    def _confused(self, stage: Stage) -> ConversationFailed:
        self.abort()
        return ConversationFailed(stage, "protocol_error")

    def _failed(self, stage: Stage, broken: WireBroken) -> ConversationFailed:
        """Name what broke the wire, or the goodbye that came before it broke."""
        goodbye = self._wire.take_unread()
        if goodbye is not None and goodbye.code >= 400:
            return ConversationFailed(stage, explain(stage, goodbye), goodbye)
        return ConversationFailed(stage, broken.reason)

    def _seconds(self, patience: timedelta) -> float:
        return min(patience.total_seconds(), self.until - time.monotonic())


def check_address(address: str, *, takes_utf8: bool = False) -> str:
    """Return the address if it can stand between `<` and `>`; raises InvalidArgument."""
    is_safe = (_UTF8_ADDRESS if takes_utf8 else _ADDRESS).fullmatch(address) and not UNSAFE_IN_NAMES.search(address)
    if not is_safe or len(address.encode()) > MAX_ADDRESS_OCTETS:
        raise InvalidArgument("the address holds what no SMTP command can carry")
    return address


def parse_capabilities(reply: Reply) -> dict[str, str]:
    """Return each keyword of an EHLO reply with its parameters, in capitals (RFC 5321 section 4.1.1.1)."""
    found: dict[str, str] = {}
    for line in reply.lines[1 : MAX_KEYWORDS + 1]:
        keyword, _, parameters = line.decode("ascii", errors="replace").upper().partition(" ")
        if keyword.startswith("AUTH="):  # an old spelling that some servers still send beside the new
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        if _KEYWORD.fullmatch(keyword):
            found[keyword] = f"{found[keyword]} {parameters}" if keyword in found else parameters.strip()
    return found
