"""The client's side of SMTP (RFC 5321): commands out, replies back, in groups where the server offers PIPELINING.

A connection knows the protocol and nothing of deliveries: it returns replies, and raises
`ConversationFailed` when the conversation cannot go on.
"""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from email_gateway.delivery.commands import find_size_limit, parse_capabilities
from email_gateway.delivery.replies import Stage, explain
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.target import Timeouts
from email_gateway.delivery.wire import Wire, WireBroken

BLOCK_OCTETS = 256 * 1024
EHLO_UNKNOWN = (500, 502)  # RFC 5321 section 3.2: "command not recognized", or not implemented


class ConversationFailed(Exception):
    """The conversation cannot go on. `reason` is a stable word, `reply` what the server said, if it did."""

    def __init__(self, stage: Stage, reason: str, reply: Reply | None = None) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.reply = reply


class OutOfStep(ConversationFailed):
    """The server did not bear a group of commands. No message was sent: they may be said again one by one."""


@dataclass(slots=True)
class Answers:
    """What a server said to MAIL and to each RCPT as far as it came, and what ended that before its time."""

    mail: Reply | None = None
    recipients: list[Reply] = field(default_factory=list)
    failed: ConversationFailed | None = None

    @property
    def is_anybody_accepted(self) -> bool:
        return self.mail is not None and self.mail.is_positive and any(reply.is_positive for reply in self.recipients)


class SmtpConnection:
    """A connection to one server; `opening.open_connection` makes it ready for mail.

    `until` is the monotonic time at which the attempt it serves ends: every wait before the final
    dot stops there. `size_limit` is the largest message that the server takes, if it says so.
    """

    def __init__(self, wire: Wire, timeouts: Timeouts, until: float) -> None:
        self._wire = wire
        self._timeouts = timeouts
        self._is_closing = False
        self._is_in_data = False
        self._needs_reset = False
        self.until = until
        self.capabilities: dict[str, str] = {}
        self.size_limit: int | None = None
        self.is_encrypted = False
        self.messages = 0

    @property
    def is_reusable(self) -> bool:
        """Whether another message may follow on this connection."""
        is_free = not (self._is_closing or self._is_in_data or self._wire.is_broken or self._wire.owed)
        return is_free and self._wire.is_quiet

    @property
    def offers_size(self) -> bool:
        """Whether the server wants to know the size of a message beforehand (RFC 1870)."""
        return "SIZE" in self.capabilities

    @property
    def offers_pipelining(self) -> bool:
        """Whether the server takes commands in groups (RFC 2920)."""
        return "PIPELINING" in self.capabilities

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
        self._learn({})
        if reply.code in EHLO_UNKNOWN:
            reply = await self.ask(Stage.EHLO, f"HELO {name}".encode("ascii"), self._timeouts.ehlo)
            self.require_positive(Stage.EHLO, reply)
            return
        self.require_positive(Stage.EHLO, reply)
        self._learn(parse_capabilities(reply))

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Encrypt from here on; EHLO must follow, since what was said in clear may be forged."""
        try:
            await self._wire.start_tls(context, host, self._seconds(self._timeouts.tls))
        except WireBroken as broken:
            raise ConversationFailed(Stage.STARTTLS, broken.reason) from None
        self._learn({})
        self.is_encrypted = True

    def _learn(self, capabilities: dict[str, str]) -> None:
        self.capabilities = capabilities
        self.size_limit = find_size_limit(capabilities)

    # Mail. Replies come back as they are; only 421, silence and nonsense end a conversation.

    async def begin(self, mail: bytes, recipients: Sequence[bytes], *, in_group: bool) -> Answers:
        """Ask for a transaction: MAIL, each RCPT, and DATA; what an earlier one left behind is cleared.

        When `failed` is None and anybody is accepted, the server waits for the message. In a group
        all commands leave in one write and the replies are read in their order (RFC 2920), which only a server
        bears that offers PIPELINING; else each waits for the answer before it, and whoever finds the server
        full is not followed by others.
        """
        answers = Answers()
        try:
            if in_group:
                await self._begin_at_once(mail, recipients, answers)
            else:
                await self._begin_in_turn(mail, recipients, answers)
        except ConversationFailed as failed:
            answers.failed = failed
        return answers

    async def _begin_in_turn(self, mail: bytes, recipients: Sequence[bytes], answers: Answers) -> None:
        if self._needs_reset:
            self.require_positive(Stage.MAIL, await self.ask(Stage.MAIL, b"RSET", self._timeouts.reset))
        self._needs_reset = True
        answers.mail = await self.ask(Stage.MAIL, mail, self._timeouts.mail)
        if not answers.mail.is_positive:
            return
        for command in recipients:
            reply = await self.ask(Stage.RCPT, command, self._timeouts.rcpt)
            is_full = not reply.is_positive and explain(Stage.RCPT, reply) == "too_many_recipients"
            answers.recipients.append(reply)
            if is_full and answers.is_anybody_accepted:
                break
        if answers.is_anybody_accepted:
            self._require_ready(await self.ask(Stage.DATA, b"DATA", self._timeouts.data))

    async def _begin_at_once(self, mail: bytes, recipients: Sequence[bytes], answers: Answers) -> None:
        """Say everything in one write; raises OutOfStep for a server that does not bear that.

        A reply out of order makes every one before it doubtful, so nothing of the group counts then.
        Nor is a server trusted with groups that took the first command and lost the rest.
        """
        reset = (b"RSET",) if self._needs_reset else ()
        commands = (*reset, mail, *recipients, b"DATA")
        self._say(Stage.MAIL, b"\r\n".join(commands), owed=len(commands))
        try:
            await self._read_group(answers, len(recipients), is_reset=bool(reset))
        except ConversationFailed as failed:
            was_begun = answers.mail is not None and answers.mail.is_positive
            if failed.reason == "protocol_error":
                answers.mail, answers.recipients = None, []
            elif failed.reply is not None or not was_begun:
                raise
            raise OutOfStep(failed.stage, failed.reason) from None
        if self._is_in_data and not answers.is_anybody_accepted:
            # RFC 2920 section 3.1 would have us send a dot alone. But no dot of ours leaves that was not
            # committed as pending, and some servers take an empty message for a mail: we close instead.
            raise OutOfStep(Stage.DATA, self._confused(Stage.DATA).reason)

    async def _read_group(self, answers: Answers, recipients: int, *, is_reset: bool) -> None:
        timeouts = self._timeouts
        if is_reset:
            self.require_positive(Stage.MAIL, await self._read(Stage.MAIL, timeouts.reset))
        self._needs_reset = True
        answers.mail = await self._read(Stage.MAIL, timeouts.mail)
        for _ in range(recipients):
            answers.recipients.append(await self._read(Stage.RCPT, timeouts.rcpt))
        ready = await self._read(Stage.DATA, timeouts.data)
        if answers.is_anybody_accepted or ready.code < 400:
            self._require_ready(ready)

    def _require_ready(self, reply: Reply) -> None:
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

    async def finish(self, rest: bytes, lease_end: float) -> Reply:
        """Send what is left of the message with its final dot, and return what the server says to it.

        What the kernel does not take at once must be with it before the monotonic time `lease_end`.
        A ConversationFailed of stage DATA means that the dot has not left; one of stage DOT
        without a reply means that nobody can know whether the message was taken (RFC 1047).
        """
        if (early := self._wire.take_unread()) is not None:
            # Some servers refuse a message before its end, and close.
            self._is_closing = True
            self._refuse(Stage.DATA, early)
        self._require_order(Stage.DATA)
        try:
            self._wire.write(rest + b".\r\n", owed=1)
            if self._wire.is_stalled:
                seconds = min(self._timeouts.block.total_seconds(), lease_end - time.monotonic())
                await self._wire.flush(seconds)
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
                self._wire.write(b"QUIT\r\n", owed=1)
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
        self._say(stage, command)
        return await self._read(stage, patience)

    def require_positive(self, stage: Stage, reply: Reply) -> None:
        """Raise ConversationFailed unless the reply is 2yz."""
        if not reply.is_positive:
            self._refuse(stage, reply)

    def _say(self, stage: Stage, commands: bytes, owed: int = 1) -> None:
        """Write commands to a server that has said nothing unasked."""
        if (early := self._wire.take_unread()) is not None and early.is_closing:
            self._is_closing = True
            raise ConversationFailed(stage, "service_closing", early)
        if early is not None:
            raise self._confused(stage)
        self._require_order(stage)
        try:
            self._wire.write(commands + b"\r\n", owed=owed)
        except WireBroken as broken:
            raise ConversationFailed(stage, broken.reason) from None

    def _refuse(self, stage: Stage, reply: Reply) -> None:
        """Raise for a reply that ends the conversation: a refusal, or one that makes no sense here."""
        if reply.code < 400:
            raise self._confused(stage)
        raise ConversationFailed(stage, explain(stage, reply), reply)

    async def _read(self, stage: Stage, patience: timedelta) -> Reply:
        # After the dot only the dot's own patience counts: giving up early makes duplicates.
        seconds = patience.total_seconds() if stage is Stage.DOT else self._seconds(patience)
        wire = self._wire
        try:
            reply = await wire.read_reply(seconds)
        except WireBroken as broken:
            raise self._failed(stage, broken) from None
        # What follows the last reply that was asked for makes it unclear which of them is the answer.
        if not wire.is_orderly:
            raise self._confused(stage)
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
