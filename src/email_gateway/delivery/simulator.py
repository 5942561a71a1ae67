"""Addresses that stand for what can become of a mail, at a domain that nobody can have (RFC 2606 section 3).

Their mail is answered here, in production too: nothing leaves, no server is asked, and no route learns from it. What
is recorded is what a server's answer would have left, with the reason `simulated`.
"""

from email_gateway.delivery.outgoing import OutgoingMail, Reached
from email_gateway.delivery.replies import Stage
from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.deliveries import SIMULATED, Claim, Outcome, Phase, Verdict

TAKEN = Reply(250, (b"2.0.0 simulated: taken, and sent nowhere",))
UNKNOWN = Reply(550, (b"5.1.1 simulated: no such mailbox",))
BUSY = Reply(450, (b"4.2.1 simulated: the mailbox is busy, try again",))


class Simulator:
    """The transport that such mail takes: it is composed as any mail, and goes no further."""

    async def send(self, mail: OutgoingMail, reached: Reached) -> list[Outcome]:
        """Return what becomes of the mail at each of its addresses."""
        await reached(mail.claims, Phase.COMPOSED)
        return [simulate(claim, recipient) for claim, recipient in zip(mail.claims.each, mail.recipients, strict=True)]

    async def close(self) -> None:
        """Close nothing."""


def simulate(claim: Claim, recipient: str) -> Outcome:
    """Return what becomes of a mail to an address of the simulator: by its local part up to a `+`.

    What begins badly (`delayed`, `in-doubt`) ends well at the second attempt, as most such mail does.
    """
    local = recipient.rpartition("@")[0].partition("+")[0].lower()
    is_first = claim.attempt == 1
    match local:
        case "delayed" if is_first:
            return _answered(claim, Verdict.DEFERRED, Stage.RCPT, BUSY)
        case "in-doubt" if is_first:
            return Outcome(claim, Verdict.IN_DOUBT, Stage.DOT.value, SIMULATED)
        case "delivered" | "delayed" | "in-doubt":
            return _answered(claim, Verdict.DELIVERED, Stage.DOT, TAKEN)
        case "complained":
            return _answered(claim, Verdict.COMPLAINED, Stage.DOT, TAKEN)
        case "suppressed":
            return Outcome(claim, Verdict.SUPPRESSED, "queue", SIMULATED)
    return _answered(claim, Verdict.BOUNCED, Stage.RCPT, UNKNOWN)


def _answered(claim: Claim, verdict: Verdict, stage: Stage, reply: Reply) -> Outcome:
    return Outcome(claim, verdict, stage.value, SIMULATED, reply.code, reply.enhanced, reply.text)
