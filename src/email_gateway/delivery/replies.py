"""What a server's reply means for a recipient: a verdict, and a short stable word for the reason.

The stage decides whom a refusal is about (a 5xx to RCPT or to the dot is about the recipient, one to
anything before is our trouble), the enhanced code (RFC 3463) and then the text decide the reason.
"""

import re
from enum import StrEnum

from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.deliveries import Verdict


class Stage(StrEnum):
    """The command that was answered, or was not."""

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


# Refusals that stand at RCPT or the dot and are still ours: the smarthost does not accept us. To
# bounce them would turn a mistyped password into a day of lost mail.
OURS = frozenset({"auth_failed", "out_of_sequence", "relay_denied", "too_many_recipients"})

# RFC 4954 section 6 and RFC 2034's 530: authentication is wanted, too weak, wrong, or needs encryption.
AUTH_CODES = frozenset({530, 534, 535, 538})

# Subject and detail of RFC 3463 and of the IANA registry that continues it.
BY_ENHANCED = {
    "1.1": "mailbox_unknown",
    "1.2": "domain_unknown",
    "1.3": "mailbox_unknown",
    "1.4": "mailbox_unknown",
    "1.6": "mailbox_disabled",
    "1.7": "sender_refused",
    "1.8": "sender_refused",
    "1.10": "domain_unknown",  # null MX, RFC 7505
    "2.1": "mailbox_disabled",
    "2.2": "mailbox_full",
    "2.3": "message_too_large",
    "2.4": "mailbox_unknown",
    "3.1": "server_full",
    "3.4": "message_too_large",
    "4.3": "routing_failed",
    "4.4": "routing_failed",
    "4.6": "mail_loop",
    "4.7": "expired_downstream",
    "5.3": "too_many_recipients",
    "7.8": "auth_failed",
    "7.9": "auth_failed",
    "7.11": "auth_failed",
    "7.13": "mailbox_disabled",
    "7.17": "mailbox_unknown",
    "7.18": "domain_unknown",
    "7.20": "sender_unauthenticated",
    "7.21": "sender_unauthenticated",
    "7.22": "sender_unauthenticated",
    "7.23": "sender_unauthenticated",
    "7.24": "sender_unauthenticated",
    "7.25": "sender_unauthenticated",
    "7.26": "sender_unauthenticated",
    "7.27": "sender_refused",
    "7.28": "rate_limited",
}

# For codes that say little: x.0.0, x.7.1, a bare 550. The first that matches counts. Words of real
# servers, not of a standard: a wrong guess changes the word, and only `relay_denied` the verdict.
BY_TEXT = {
    "relay_denied": re.compile(
        r"relay(?:ing)? (?:access )?(?:is )?(?:denied|prohibited|not (?:permitted|allowed))"
        r"|(?:not (?:allowed|permitted)|unable|isn't allowed) to relay|cannot relay"
    ),
    "greylisted": re.compile(r"gr[ea]y-?list"),
    "rate_limited": re.compile(
        r"rate.?limit|too many (?:messages|e?-?mails|connections)|throttl|unusual rate|sending limit"
    ),
    "malware": re.compile(r"\bvirus|malware"),
    "sender_unauthenticated": re.compile(r"\bdmarc|\bdkim\b|\bspf\b"),
    "spam": re.compile(r"\bspam|junk ?mail|(?:block|black)-?(?:ed|list)|\bdnsbl\b|\brbl\b|reputation"),
    "mailbox_full": re.compile(r"quota|mailbox (?:is )?full|out of storage"),
    "mailbox_disabled": re.compile(
        r"(?:account|mailbox|user) (?:\w+ ){0,3}(?:disabled|inactive|suspended|closed)|account is not active"
    ),
    "mailbox_unknown": re.compile(
        r"(?:no such|unknown|invalid|unrouteable) (?:user|mailbox|recipient|address|account)|no mailbox"
        r"|(?:user|mailbox|recipient|address|account) (?:\w+ ){0,3}(?:unknown|does(?:n't| not) exist|not found)"
    ),
    "policy": re.compile(r"polic(?:y|ies)"),
}
_ADDRESS = re.compile(r"\S*@\S*")

BY_SUBJECT = {
    "1": "address_refused",
    "2": "mailbox_unavailable",
    "3": "server_trouble",
    "4": "routing_failed",
    "5": "command_refused",
    "6": "content_refused",
    "7": "policy",
}
# RFC 5321 section 4.2.3, as it is used about a recipient.
BY_CODE = {
    450: "mailbox_unavailable",
    451: "server_trouble",
    452: "server_full",
    550: "mailbox_unknown",
    551: "mailbox_unknown",
    552: "mailbox_full",
    553: "mailbox_unknown",
    556: "domain_unknown",  # RFC 7504
}


def classify(stage: Stage, reply: Reply) -> tuple[Verdict, str]:
    """Return the verdict and the reason of a final reply, whose code is 2yz, 4yz or 5yz."""
    if reply.is_positive:
        return Verdict.DELIVERED, "accepted"
    reason = explain(stage, reply)
    if reply.is_transient or reason in OURS:
        return Verdict.DEFERRED, reason
    if stage in (Stage.RCPT, Stage.DOT):
        return Verdict.BOUNCED, reason
    if stage is Stage.MAIL and reason == "message_too_large":
        return Verdict.BOUNCED, reason  # RFC 1870 section 6.1: it will never be taken, whoever asks
    return Verdict.DEFERRED, reason


def explain(stage: Stage, reply: Reply) -> str:
    """Return the word for a negative reply; of a few that stay the same from release to release."""
    if reply.is_closing:
        return "service_closing"
    if stage is Stage.STARTTLS:
        return "tls_refused"
    if stage is Stage.AUTH or reply.code in AUTH_CODES:
        return "auth_failed"
    if reply.code == 503:
        return "out_of_sequence"
    enhanced = reply.enhanced
    if stage is Stage.RCPT and enhanced is None and reply.code in (452, 552):
        # RFC 5321 section 4.5.3.1.10: 452, and 552 of older servers, end the list of recipients.
        return "too_many_recipients"
    subject_and_detail = enhanced.partition(".")[2] if enhanced else ""
    return (
        BY_ENHANCED.get(subject_and_detail)
        or _find_in_text(reply)
        or BY_SUBJECT.get(subject_and_detail.partition(".")[0])
        or (BY_CODE.get(reply.code) if stage is Stage.RCPT else None)
        or ("temporary_failure" if reply.is_transient else "refused")
    )


def _find_in_text(reply: Reply) -> str | None:
    # A server repeats the address it refuses, and an address may hold any of these words.
    text = _ADDRESS.sub(" ", reply.text).lower()
    return next((reason for reason, pattern in BY_TEXT.items() if pattern.search(text)), None)


from dataclasses import dataclass
from email_gateway.mail.deliveries import Scope, Hardness

@dataclass(frozen=True, slots=True)
class Ruling:
    verdict: Verdict
    reason: str
    scope: Scope
    hardness: Hardness = Hardness.SOFT

def rule(stage, reply):
    v, r = classify(stage, reply)
    if r in ("rate_limited","too_many_connections","service_closing","auth_failed","relay_denied") or (v is Verdict.DEFERRED and stage not in (Stage.RCPT, Stage.DOT)): return Ruling(Verdict.HELD, r, Scope.ROUTE)
    return Ruling(v, r, Scope.RECIPIENT)

def rule_failure(stage, reason):
    if reason == "message_too_large" or (stage is Stage.RCPT and reason=="address_invalid"): return Ruling(Verdict.BOUNCED, reason, Scope.MESSAGE)
    if stage is Stage.DOT: return Ruling(Verdict.IN_DOUBT, reason, Scope.DESTINATION)
    if stage in (Stage.RCPT, Stage.DATA): return Ruling(Verdict.DEFERRED if reason != "lease_ended" else Verdict.HELD, reason, Scope.DESTINATION)
    return Ruling(Verdict.HELD, reason, Scope.ROUTE)
