"""What a server's reply means: whom it speaks of, a verdict, and a short stable word for the reason.

First the reason is found, in what the server says (`phrases`) and in its enhanced code (RFC 3463). The
reason and the stage give the scope (`reasons`), and the scope bounds the verdict: only what speaks of
the recipient or of the message may bounce; what speaks of the route, the sender or us is held.
"""

from dataclasses import dataclass
from enum import StrEnum

from email_gateway.delivery.phrases import find_after_codes, find_before_codes, words_of
from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.deliveries import Hardness, Scope, Verdict
from email_gateway.mail.reasons import LOCAL, PASSING, REASONS, THROTTLES, hardness_of


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


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an answer comes to. It is hard only where it bounces a dead address."""

    verdict: Verdict
    reason: str
    scope: Scope
    hardness: Hardness


ACCEPTED = Ruling(Verdict.DELIVERED, "accepted", Scope.RECIPIENT, Hardness.SOFT)

# RFC 4954 section 6 and RFC 2034's 530: authentication is wanted, too weak, wrong, or needs encryption.
AUTH_CODES = frozenset({530, 534, 535, 538})

# Subject and detail of RFC 3463 and of the IANA registry that continues it. 7.9 is missing: Yahoo says
# 554 5.7.9 of messages, and where it is about a login the code is 534.
BY_ENHANCED = {
    "1.1": "mailbox_unknown",
    "1.2": "domain_unknown",
    "1.3": "address_invalid",
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
    "3.2": "server_unavailable",
    "3.4": "message_too_large",
    "3.5": "server_unavailable",
    "4.5": "server_unavailable",
    "4.6": "mail_loop",
    "4.7": "expired_downstream",
    "5.3": "too_many_recipients",
    "6.7": "smtputf8_not_offered",  # RFC 6531 section 3.5
    "7.8": "auth_failed",
    "7.10": "tls_required",
    "7.11": "auth_failed",
    "7.13": "mailbox_disabled",
    "7.17": "mailbox_unknown",
    "7.18": "domain_unknown",
    "7.20": "sender_unauthenticated",
    "7.21": "sender_unauthenticated",
    "7.22": "sender_unauthenticated",
    "7.23": "sender_unauthenticated",
    "7.24": "sender_unauthenticated",
    "7.25": "reverse_dns_missing",
    "7.26": "sender_unauthenticated",
    "7.27": "sender_refused",
    "7.28": "rate_limited",
    "7.29": "sender_unauthenticated",
    "7.38": "rate_limited",  # mail flood detected
}
BY_SUBJECT = {
    "1": "address_refused",
    "2": "mailbox_unavailable",
    "3": "server_trouble",
    "4": "routing_failed",
    "5": "command_refused",
    "6": "content_refused",
    "7": "policy",
}
# RFC 5321 section 4.2.3, as it is used about a recipient. A bare 550 says less than that the mailbox
# is unknown: it is also what servers say that refuse by policy.
AT_RCPT = {
    450: "mailbox_unavailable",
    451: "server_trouble",
    452: "too_many_recipients",  # RFC 5321 section 4.5.3.1.10, as 552 of older servers
    500: "command_refused",
    501: "address_refused",
    502: "command_refused",
    504: "command_refused",
    521: "server_unavailable",  # RFC 7504
    550: "mailbox_unavailable",
    551: "mailbox_unknown",
    552: "too_many_recipients",
    553: "address_refused",
    555: "command_refused",
    556: "domain_unknown",  # RFC 7504
}
ELSEWHERE = {
    451: "server_trouble",
    452: "server_full",
    500: "command_refused",
    501: "command_refused",
    502: "command_refused",
    504: "command_refused",
    521: "server_unavailable",
    552: "message_too_large",
    555: "command_refused",
}
# After the dot there is no command left to be misunderstood: the server means the content.
AT_DOT = {**ELSEWHERE, 500: "content_refused", 501: "content_refused"}

# What a login can be refused for beside a wrong password.
AT_AUTH = frozenset({"account_suspended", "permission_denied", "sending_quota_exceeded", "tls_required"})

BEFORE_RECIPIENTS = frozenset({Stage.CONNECT, Stage.EHLO, Stage.STARTTLS, Stage.AUTH, Stage.MAIL})
# The settings of a message that MAIL can name: its size (RFC 1870) and its need of SMTPUTF8 (RFC 6531).
AT_MAIL = frozenset({"message_too_large", "smtputf8_not_offered"})
# Words about a content that nobody has seen yet are about us.
UNSEEN = frozenset({"spam", "malware", "content_refused"})


def rule(stage: Stage, reply: Reply, *, recipients: int = 1) -> Ruling:
    """Return what a final reply comes to; its code is 2yz, 4yz or 5yz.

    `recipients` is how many were accepted before DATA. What is said of a mailbox after the dot is said
    of one of them and nobody knows which, so it is hard only where there is one.
    """
    if reply.is_positive:
        return ACCEPTED
    reason = explain(stage, reply)
    is_permanent = not reply.is_transient
    scope = _scope(stage, reason, is_permanent=is_permanent)
    if reason == "too_many_recipients":
        return Ruling(Verdict.DEFERRED, reason, scope, Hardness.SOFT)
    if scope in (Scope.ROUTE, Scope.OURS, Scope.SENDER) or reason == "destination_refused":
        return Ruling(Verdict.HELD, reason, scope, Hardness.SOFT)
    is_unclear = stage is Stage.DATA and REASONS[reason].scope is not Scope.MESSAGE
    if not is_permanent or reason in PASSING or is_unclear:
        # A refusal of DATA that names no content is about nobody: it counts, and is tried again.
        return Ruling(Verdict.DEFERRED, reason, scope, Hardness.SOFT)
    return Ruling(Verdict.BOUNCED, reason, scope, hardness_of(reason, is_permanent=recipients == 1))


def rule_failure(stage: Stage, reason: str) -> Ruling:
    """Return what the end of a conversation without a reply comes to."""
    if stage is Stage.DOT:
        # The server may have taken the message and said so (RFC 1047).
        return Ruling(Verdict.IN_DOUBT, reason, Scope.ROUTE, Hardness.SOFT)
    if reason == "address_invalid" and stage is Stage.MAIL:
        return Ruling(Verdict.HELD, reason, Scope.SENDER, Hardness.SOFT)
    if reason in ("address_invalid", "smtputf8_not_offered", "message_too_large"):
        scope = REASONS[reason].scope or Scope.MESSAGE
        return Ruling(Verdict.BOUNCED, reason, scope, Hardness.SOFT)
    if reason in LOCAL:
        return Ruling(Verdict.HELD, reason, Scope.OURS, Hardness.SOFT)  # we were slow, and asked nobody
    if stage in (Stage.RCPT, Stage.DATA):
        # The server was there and listened; perhaps it is this mail that it does not survive. The
        # attempt counts, or one such mail would be the probe that holds a healthy route for ever.
        return Ruling(Verdict.DEFERRED, reason, Scope.MESSAGE, Hardness.SOFT)
    return Ruling(Verdict.HELD, reason, _scope(stage, reason, is_permanent=False), Hardness.SOFT)


def explain(stage: Stage, reply: Reply) -> str:
    """Return the word for a negative reply; of a few that stay the same from release to release."""
    if stage is Stage.STARTTLS and not reply.is_closing:
        return "tls_refused"
    words = words_of(reply)
    said = find_before_codes(words)
    if stage is Stage.AUTH and not reply.is_closing:
        if said in AT_AUTH:
            return said
        return "auth_unavailable" if reply.is_transient else "auth_failed"
    reason = said or _find_by_code(stage, reply, words)
    if reply.is_closing:
        says_more = reason in THROTTLES or REASONS[reason].scope in (Scope.OURS, Scope.SENDER)
        return reason if says_more else "service_closing"
    return _as_heard_at(stage, reason)


def _find_by_code(stage: Stage, reply: Reply, words: str) -> str:
    if reply.code in AUTH_CODES:
        return "auth_failed"
    if reply.code == 503:
        return "out_of_sequence"
    subject_and_detail = (reply.enhanced or "").partition(".")[2]
    subject, _, detail = subject_and_detail.partition(".")
    # 5.5.0 is "other": beside 55x no command was misunderstood.
    is_vague = subject == "5" and detail == "0" and reply.code >= 550
    return (
        BY_ENHANCED.get(subject_and_detail)
        or find_after_codes(words)
        or (None if is_vague else BY_SUBJECT.get(subject))
        or _codes_at(stage).get(reply.code)
        or ("temporary_failure" if reply.is_transient else "refused")
    )


def _codes_at(stage: Stage) -> dict[int, str]:
    if stage is Stage.RCPT:
        return AT_RCPT
    return AT_DOT if stage is Stage.DOT else ELSEWHERE


def _as_heard_at(stage: Stage, reason: str) -> str:
    """Give the word that fits a stage at which nobody has named a recipient or shown a content."""
    if stage not in BEFORE_RECIPIENTS:
        return "content_refused" if stage is Stage.DOT and reason == "command_refused" else reason
    if reason in UNSEEN:
        return "blocklisted"
    if REASONS[reason].scope is Scope.RECIPIENT and reason not in PASSING:
        return "sender_refused" if stage is Stage.MAIL else "refused"
    return reason


def _scope(stage: Stage, reason: str, *, is_permanent: bool) -> Scope:
    entry = REASONS.get(reason)
    scope = entry.scope if entry else None
    if reason == "routing_failed" and is_permanent:
        scope = Scope.RECIPIENT  # for good: it is no outage of a domain, it is this address
    if scope in (Scope.ROUTE, Scope.OURS, Scope.SENDER):
        return scope
    if stage is Stage.MAIL and reason in AT_MAIL:
        return Scope.MESSAGE
    if stage is Stage.MAIL:
        return Scope.SENDER if is_permanent else Scope.ROUTE
    if stage in BEFORE_RECIPIENTS:
        return Scope.ROUTE
    return scope or (Scope.RECIPIENT if stage is Stage.RCPT else Scope.MESSAGE)
