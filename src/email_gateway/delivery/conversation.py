"""One message to its recipients over one connection: who is named, who is accepted, and what is committed before the dot."""

import time
from dataclasses import dataclass, replace

from email_gateway.delivery.commands import InvalidArgument, mail_command, rcpt_command
from email_gateway.delivery.outgoing import OutgoingMail, Reached
from email_gateway.delivery.replies import Ruling, Stage, explain, rule, rule_failure
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.smtp import Answers, ConversationFailed, OutOfStep, SmtpConnection
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import Claim, Claims, Hardness, Outcome, Phase

# A message up to this size leaves with its dot in one write: the send buffer of an idle connection takes that
# whole, so that nothing of it waits in this process.
JOINED_OCTETS = 16 * 1024
IN_TURN_SECONDS = 600.0  # so long a server that did not bear a group of commands gets them one by one


@dataclass(slots=True)
class Manners:
    """What a server has taught, or is known to want: how many recipients it takes at once, and whether in groups."""

    most_recipients: int | None = None
    has_borne_groups: bool = False
    in_turn_until: float = 0.0

    @property
    def bears_groups(self) -> bool:
        return time.monotonic() >= self.in_turn_until

    def learn(self, failed: ConversationFailed | None) -> ConversationFailed | None:
        """Learn from how a group of commands ended; return what ended the conversation, if anything did.

        Some servers offer PIPELINING and lose what came with a command. One that has answered a whole
        group is none of them: when it is silent, or closes, that is no matter of groups.
        """
        if not isinstance(failed, OutOfStep):
            self.has_borne_groups = self.has_borne_groups or failed is None
            return failed
        if self.has_borne_groups and failed.reason != "protocol_error":
            return ConversationFailed(failed.stage, failed.reason)
        self.in_turn_until = time.monotonic() + IN_TURN_SECONDS
        return failed


class Conversation:
    """One message to its recipients over one connection; settles every claim exactly once.

    The phase `dot_pending` is committed before a final dot can leave: MAIL, RCPT and DATA go out,
    together or in turn, and the answers are read up to the server's 354. A small message follows
    the commit in one write with its dot; of a larger one all but the dot is sent before, so that the
    time in which a death would leave a doubt is not that of its transfer.
    """

    def __init__(self, mail: OutgoingMail, data: bytes, reached: Reached, manners: Manners) -> None:
        self._mail = mail
        self._data = data
        self._reached = reached
        self._manners = manners
        # By the place in the envelope: it is what tells the claims of one message apart at the least cost.
        self._addresses = {claim.recipient: to for claim, to in zip(mail.claims.each, mail.recipients, strict=True)}
        self._settled: dict[int, Outcome] = {}
        self._needs_utf8 = mail.is_international
        self._is_ascii = not self._needs_utf8 and all(to.isascii() for to in mail.recipients)

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of each claim, in the order of the claims."""
        return [self._settled[claim.recipient] for claim in self._mail.claims.each]

    async def run(self, connection: SmtpConnection) -> None:
        """Send the message; raises ConversationFailed, and what `reached` raises while nobody is settled.

        What one transaction has no room for follows in the next one at once (RFC 5321 section 4.5.3.1.10).
        """
        await self._reached(self._mail.claims, Phase.CONNECTED)
        if not self._is_ascii and not connection.offers_smtputf8:
            self._settle_international()
        while left := self._unsettled():
            try:
                await self._transact(connection, left[: self._manners.most_recipients])
            except (ClaimLost, DatabaseUnavailable):
                if not self._settled:
                    raise
                # What the server said of the others must be written, or they would be sent again.
                raise ConversationFailed(Stage.DATA, "lease_ended") from None

    def settle_rest(self, failed: ConversationFailed) -> None:
        """Settle the claims that have no outcome yet with what ended the conversation."""
        self._settle_by_failure(self._unsettled(), failed)

    def _settle_international(self) -> None:
        """Settle whom only a server that offers SMTPUTF8 can be asked about: the address has no other form."""
        for claim in self._unsettled():
            if self._needs_utf8 or not self._addresses[claim.recipient].isascii():
                self._add(claim, Stage.MAIL, rule_failure(Stage.MAIL, "smtputf8_not_offered"))

    async def _transact(self, connection: SmtpConnection, batch: tuple[Claim, ...]) -> None:
        """Hold one transaction: MAIL, RCPT for each, DATA, and the message with its dot."""
        limit = connection.size_limit
        if limit is not None and len(self._mail.raw) > limit:
            for claim in batch:
                self._add(claim, Stage.MAIL, rule_failure(Stage.MAIL, "message_too_large"))
            return
        mail, named = self._name(connection, batch)
        if not named:
            return
        commands = [command for _, command in named]
        in_group = connection.offers_pipelining and self._manners.bears_groups
        answers = await connection.begin(mail, commands, in_group=in_group)
        accepted = self._judge([claim for claim, _ in named], answers)
        failed = self._manners.learn(answers.failed) if in_group else answers.failed
        if failed is not None and self._unsettled():
            raise failed
        if accepted:
            await self._send(connection, accepted)

    def _name(self, connection: SmtpConnection, batch: tuple[Claim, ...]) -> tuple[bytes, list[tuple[Claim, bytes]]]:
        """Return the commands that name the sender and each recipient; settle whom no command can name."""
        needs_utf8 = self._needs_utf8
        if not self._is_ascii:
            needs_utf8 = needs_utf8 or not all(self._addresses[claim.recipient].isascii() for claim in batch)
        size = len(self._mail.raw) if connection.offers_size else None
        try:
            mail = mail_command(self._mail.sender, size=size, needs_utf8=needs_utf8)
        except InvalidArgument:
            raise ConversationFailed(Stage.MAIL, "address_invalid") from None
        named: list[tuple[Claim, bytes]] = []
        for claim in batch:
            try:
                named.append((claim, rcpt_command(self._addresses[claim.recipient], takes_utf8=needs_utf8)))
            except InvalidArgument:
                self._add(claim, Stage.RCPT, rule_failure(Stage.RCPT, "address_invalid"))
        return mail, named

    def _judge(self, named: list[Claim], answers: Answers) -> tuple[Claim, ...]:
        """Settle who is refused, and return those who are not; whoever the server had no room for is left."""
        if answers.mail is not None and not answers.mail.is_positive:
            for claim in named:
                self._settle(claim, Stage.MAIL, answers.mail)
            return ()
        accepted: list[Claim] = []
        is_full = False
        for claim, reply in zip(named, answers.recipients, strict=False):  # a loss, or a full server, ends them early
            if reply.is_positive:
                accepted.append(claim)
            elif accepted and explain(Stage.RCPT, reply) == "too_many_recipients":
                if not is_full:
                    self._manners.most_recipients = len(accepted)
                is_full = True  # they follow in the next transaction
            else:
                self._settle(claim, Stage.RCPT, reply)
        return tuple(accepted)

    async def _send(self, connection: SmtpConnection, accepted: tuple[Claim, ...]) -> None:
        """Send the message to whom the server accepted; it waits for it."""
        claims = self._claims_of(accepted)
        await self._reached(claims, Phase.RCPT_OK)
        rest = self._data
        if len(rest) > JOINED_OCTETS:
            await connection.send(rest)
            rest = b""
        lease_end = await self._reached(claims, Phase.DOT_PENDING)
        if time.monotonic() >= lease_end:
            # This process slept past its claim: another worker may be sending by now.
            raise ConversationFailed(Stage.DATA, "lease_ended")
        try:
            reply = await connection.finish(rest, lease_end)
        except ConversationFailed as failed:
            if failed.stage is not Stage.DOT:
                raise
            self._settle_by_failure(accepted, failed)
            if not self._unsettled():
                raise
            # Nothing was sent for the others, who would have followed: no doubt is theirs.
            raise ConversationFailed(Stage.MAIL, failed.reason, failed.reply) from None
        ruling = rule(Stage.DOT, reply, recipients=len(accepted))
        for claim in accepted:
            self._add(claim, Stage.DOT, ruling, reply)

    def _claims_of(self, accepted: tuple[Claim, ...]) -> Claims:
        everybody = self._mail.claims
        return everybody if len(accepted) == len(everybody) else replace(everybody, each=accepted)

    def _unsettled(self) -> tuple[Claim, ...]:
        everybody = self._mail.claims.each
        if not self._settled:
            return everybody
        return tuple(claim for claim in everybody if claim.recipient not in self._settled)

    def _settle_by_failure(self, claims: tuple[Claim, ...], failed: ConversationFailed) -> None:
        # What was said to a login has been cut down to its code: the reason was read before.
        if failed.reply is None or failed.stage is Stage.AUTH:
            ruling = rule_failure(failed.stage, failed.reason)
        else:
            ruling = rule(failed.stage, failed.reply)
        for claim in claims:
            self._add(claim, failed.stage, ruling, failed.reply)

    def _settle(self, claim: Claim, stage: Stage, reply: Reply) -> None:
        self._add(claim, stage, rule(stage, reply), reply)

    def _add(self, claim: Claim, stage: Stage, ruling: Ruling, reply: Reply | None = None) -> None:
        self._settled[claim.recipient] = Outcome(
            claim=claim,
            verdict=ruling.verdict,
            stage=stage.value,
            reason=ruling.reason,
            code=reply.code if reply else None,
            enhanced=reply.enhanced if reply else None,
            reply=reply.text if reply else None,
            scope=ruling.scope,
            is_hard=ruling.hardness is Hardness.HARD,
        )
