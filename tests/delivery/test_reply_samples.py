"""What real servers say, each sentence with its verdict, reason and scope; names and addresses are invented."""

import pytest

from email_gateway.delivery.replies import Ruling, Stage, rule
from email_gateway.mail.deliveries import Hardness, Scope, Verdict
from tests.delivery.held_samples import HELD
from tests.delivery.saying import reply_of

RCPT, DOT = Stage.RCPT, Stage.DOT

# Of this recipient, for good: reason, and whether the address is dead.
BOUNCED = [
    (
        "550 5.1.1 <maria@example.net>: Recipient address rejected: User unknown in relay recipient table",
        "mailbox_unknown",
        "hard",
    ),
    ("550 5.1.1 user unknown", "mailbox_unknown", "hard"),
    ("554 5.7.1 <maria@example.net>: Recipient address rejected: User unknown", "mailbox_unknown", "hard"),
    (
        (
            "550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
            "550 5.1.1 double-checking the recipient's email address for typos"
        ),
        "mailbox_unknown",
        "hard",
    ),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "mailbox_unknown", "hard"),
    ("550 Requested action not taken: mailbox unavailable", "mailbox_unknown", "hard"),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "domain_unknown", "hard"),
    ("550 No such user here", "mailbox_unknown", "hard"),
    ("550 Unrouteable address", "mailbox_unknown", "hard"),
    ("550 Mailbox unavailable or access denied", "mailbox_unknown", "hard"),
    ("554 delivery error: dd This user doesn't have a yahoo.example account", "mailbox_unknown", "hard"),
    ("551 User not local; please try elsewhere", "mailbox_unknown", "hard"),
    ("550 5.1.1 Usuário inexistente", "mailbox_unknown", "hard"),
    ("550 Destinatário desconhecido", "mailbox_unknown", "hard"),
    ("550 Caixa postal não existe", "mailbox_unknown", "hard"),
    ("550 5.1.2 bad destination system", "domain_unknown", "hard"),
    ("556 5.1.10 null MX", "domain_unknown", "hard"),
    ("556 the domain accepts no mail", "domain_unknown", "hard"),
    ("553 5.1.2 We weren't able to find the recipient domain.", "domain_unknown", "hard"),
    ("550 5.2.1 The email account that you tried to reach is disabled.", "mailbox_disabled", "hard"),
    ("550 5.2.1 disabled", "mailbox_disabled", "hard"),
    ("550 account suspended", "mailbox_disabled", "hard"),
    ("554 5.7.1 This account has been suspended", "mailbox_disabled", "hard"),
    ("554 5.0.0 This mailbox is disabled", "mailbox_disabled", "hard"),
    ("550 5.7.1 mailbox blocked", "mailbox_disabled", "hard"),
    ("554 delivery error: dd Requested mail action aborted - mailbox disabled", "mailbox_disabled", "hard"),
    ("525 5.7.13 user account disabled", "mailbox_disabled", "hard"),
    ("550 Conta bloqueada", "mailbox_disabled", "hard"),
    ("550 5.7.1 Conta suspensa por falta de uso", "mailbox_disabled", "hard"),
    ("552 5.2.2 mailbox full", "mailbox_full", "soft"),
    (
        "552 5.2.2 The email account that you tried to reach is over quota and inactive. OverQuotaPerm",
        "mailbox_full",
        "soft",
    ),
    ("552 Mailbox full", "mailbox_full", "soft"),
    ("550 5.1.1 the mailbox quota is exceeded", "mailbox_full", "soft"),
    ("550 Usuário com caixa cheia", "mailbox_full", "soft"),
    ("550 mailbox temporarily unavailable", "mailbox_unavailable", "soft"),
    ("550 Account unavailable", "mailbox_unavailable", "soft"),
    ("550 This address no longer accepts mail", "mailbox_disabled", "hard"),
    ("550 5.4.310 DNS domain example.net does not exist", "domain_unknown", "hard"),
    ("550 5.7.1 Recipient's mailbox is disabled; access denied", "mailbox_disabled", "hard"),
    ("550 5.7.1 The recipient has blocked you", "recipient_refused", "soft"),
    ("552 5.2.2 Caixa postal cheia", "mailbox_full", "soft"),
    ("550 Caixa postal lotada", "mailbox_full", "soft"),
    ("550 5.1.3 bad destination mailbox address syntax", "address_invalid", "soft"),
    ("504 5.5.2 <maria>: Recipient address rejected: need fully-qualified address", "address_invalid", "soft"),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "recipient_refused", "soft"),
    ("554 5.7.1 <maria@example.net>: Recipient address rejected: Access denied", "recipient_refused", "soft"),
    ("550 5.7.1 RESOLVER.RST.AuthenticationRequired; authentication required", "recipient_refused", "soft"),
    ("550 5.7.12 Sender was not authenticated by organization", "recipient_refused", "soft"),
    ("550 5.7.505 Access denied, banned recipient", "recipient_refused", "soft"),
    ("550 5.7.507 Access denied, rejected by recipient", "recipient_refused", "soft"),
    ("550 5.7.1 You are not allowed to send mail to this group", "recipient_refused", "soft"),
    ("550 5.7.1 Sender blocked by recipient", "recipient_refused", "soft"),
    ("550 5.1.0 Address rejected", "address_refused", "soft"),
    ("501 syntax error in parameters", "address_refused", "soft"),
    ("550 5.2.0 no", "mailbox_unavailable", "soft"),
    ("550", "mailbox_unavailable", "soft"),
    ("550 5.4.4 no way there", "routing_failed", "soft"),
]

# Of the message, after the dot.
REFUSED_MESSAGES = [
    ("552 5.3.4 Message size exceeds fixed limit", "message_too_large"),
    (
        "552-5.2.3 Your message exceeded our message size limits.\r\n552 5.2.3 https://support.example",
        "message_too_large",
    ),
    ("552 too much mail data", "message_too_large"),
    ("552 5.7.0 This message was blocked because its content presents a potential security issue.", "content_refused"),
    ("554 5.6.0 Mail message is malformed.", "content_refused"),
    ("550 5.7.1 Messages missing a valid header are refused: message must be RFC 5322 compliant", "content_refused"),
    ("500 Line too long", "content_refused"),
    ("550 5.7.1 virus found", "malware"),
    (
        "550-5.7.1 [192.0.2.1 19] Our system has detected that this message is\r\n550 5.7.1 likely unsolicited mail.",
        "spam",
    ),
    ("550 5.7.1 Message rejected as spam", "spam"),
    ("550 High probability of spam", "spam"),
    ("550 Your message was rejected by our antivirus", "malware"),
    ("554 5.7.1 Mensagem bloqueada. Consulte https://postmaster.example", "spam"),
    ("554 5.7.9 Message not accepted for policy reasons. See https://postmaster.example", "policy"),
    ("554 5.7.1 rejected for local policy", "policy"),
    ("550 5.7.1 no", "policy"),
    ("554 5.4.6 too many hops", "mail_loop"),
    ("550 5.4.7 delivery time expired", "expired_downstream"),
    ("554 transaction failed", "refused"),
    ("550 5.6.7 non-ASCII addresses not permitted", "smtputf8_not_offered"),
    ("550 5.3.0 something broke", "server_trouble"),
]

# Of this recipient or this message, for now.
DEFERRED = [
    ("450 4.7.1 Greylisted, see you in five minutes", "greylisted"),
    (
        "450 4.2.0 <maria@example.net>: Recipient address rejected: Greylisted, see http://postgrey.example",
        "greylisted",
    ),
    ("451 4.7.1 Greylisting in action, please come back later", "greylisted"),
    ("451 4.7.0 [GL01] Message from (192.0.2.1) temporarily deferred", "greylisted"),
    ("550 5.7.1 Greylisted, try again", "greylisted"),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", "mailbox_busy"),
    ("550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents it.", "mailbox_busy"),
    ("452 4.2.2 The recipient's inbox is out of storage space", "mailbox_full"),
    ("452 4.2.2 Over quota", "mailbox_full"),
    ("450 4.2.0 mailbox busy", "mailbox_unavailable"),
    ("450 mailbox busy", "mailbox_unavailable"),
    ("450 4.2.1 mailbox disabled for now", "mailbox_disabled"),
    ("450 4.1.1 <maria@example.net>: Recipient address rejected: unverified address", "mailbox_unknown"),
    ("451 local error", "server_trouble"),
    ("451 4.3.0 <maria@example.net>: Temporary lookup failure", "server_trouble"),
    ("450 4.1.2 <maria@example.net>: Recipient address rejected: Domain not found", "domain_unknown"),
    ("471 nothing to say", "temporary_failure"),
    ("451 4.4.3 DNS does not answer", "routing_failed"),
    ("451 4.4.1 no answer from host", "routing_failed"),
]


@pytest.mark.parametrize(("text", "reason", "scope"), HELD)
@pytest.mark.parametrize("stage", [RCPT, DOT])
def test_what_speaks_of_us_bounces_nobody(stage: Stage, text: str, reason: str, scope: str) -> None:
    verdict = Verdict.DEFERRED if reason == "too_many_recipients" else Verdict.HELD
    assert rule(stage, reply_of(text)) == Ruling(verdict, reason, Scope(scope), Hardness.SOFT)


@pytest.mark.parametrize(("text", "reason", "hardness"), BOUNCED)
def test_what_speaks_of_the_recipient_for_good_bounces(text: str, reason: str, hardness: str) -> None:
    expected = Ruling(Verdict.BOUNCED, reason, Scope.RECIPIENT, Hardness(hardness))
    assert rule(RCPT, reply_of(text)) == expected


@pytest.mark.parametrize(("text", "reason"), REFUSED_MESSAGES)
def test_what_speaks_of_the_message_for_good_bounces_and_is_never_hard(text: str, reason: str) -> None:
    assert rule(DOT, reply_of(text)) == Ruling(Verdict.BOUNCED, reason, Scope.MESSAGE, Hardness.SOFT)


@pytest.mark.parametrize(("text", "reason"), DEFERRED)
def test_what_speaks_of_the_recipient_for_now_is_tried_again(text: str, reason: str) -> None:
    ruling = rule(RCPT, reply_of(text))
    scope = Scope.DESTINATION if reason == "routing_failed" else Scope.RECIPIENT
    assert ruling == Ruling(Verdict.DEFERRED, reason, scope, Hardness.SOFT)
