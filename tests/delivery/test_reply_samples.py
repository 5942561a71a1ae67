"""What real servers say, each sentence with its verdict, reason and scope; names and addresses are invented."""

import pytest

from email_gateway.delivery.replies import Ruling, Stage, rule
from email_gateway.mail.deliveries import Hardness, Scope, Verdict
from tests.delivery.saying import reply_of

RCPT, DOT = Stage.RCPT, Stage.DOT

# Of us, of the sender, of the route, of the destination: the mail waits, whichever command was answered.
HELD = [
    # The replies that bounced mail in the first release.
    ("554 5.7.1 <host[10.0.0.5]>: Client host rejected: Access denied", "client_refused", "ours"),
    ("504 5.5.2 <localhost>: Helo command rejected", "helo_refused", "ours"),
    ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "helo_refused", "ours"),
    ("553 5.7.1 Sender address rejected: not owned by user", "sender_refused", "sender"),
    ("553 5.7.1 <a@acme.example>: Sender address rejected: not owned by user smtp", "sender_refused", "sender"),
    ("554 5.7.1 Service unavailable; Client host blocked using a blocklist", "blocklisted", "ours"),
    ("554 Message rejected: Sending paused for this account", "account_suspended", "ours"),
    ("554 Message rejected: Sending suspended for this account", "account_suspended", "ours"),
    (
        "554 Access denied: User `arn:aws:iam::1:user/m' is not authorized to perform `ses:SendRawEmail'",
        "permission_denied",
        "ours",
    ),
    ("550 5.4.5 Daily user sending limit exceeded", "sending_quota_exceeded", "ours"),
    ("550 5.4.5 Daily sending quota exceeded. gsmtp", "sending_quota_exceeded", "ours"),
    ("550 5.7.1 Daily SMTP relay sending limit exceeded", "sending_quota_exceeded", "ours"),
    ("550 5.7.1 Invalid credentials for relay", "relay_denied", "ours"),
    (
        "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've\r\n550 5.7.1 registered in your "
        "Workspace SMTP Relay service doesn't match domain of the account",
        "relay_denied",
        "ours",
    ),
    ("550 5.7.708 Access denied, traffic not accepted from this IP", "blocklisted", "ours"),
    ("550 5.1.8 Access denied, bad outbound sender AS(42004)", "sender_refused", "sender"),
    (
        "554 5.2.252 SendAsDenied; a@acme.example not allowed to send as b@acme.example; "
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
        "sender_refused",
        "sender",
    ),
    ("550 The from address does not match a verified Sender Identity", "sender_refused", "sender"),
    # Amazon SES
    ("454 Throttling failure: Maximum sending rate exceeded.", "rate_limited", "route"),
    ("454 Throttling failure: Daily message quota exceeded.", "sending_quota_exceeded", "ours"),
    (
        "554 Message rejected: Email address is not verified. The following identities failed the check in region "
        "EU-WEST-1: a@acme.example",
        "sender_refused",
        "sender",
    ),
    ("530 Authentication required", "auth_failed", "ours"),
    ("535 Authentication Credentials Invalid", "auth_failed", "ours"),
    ("421 Too many concurrent SMTP connections; please try again later.", "too_many_connections", "route"),
    ("421 Timeout waiting for data from client.", "service_closing", "route"),
    # Gmail and Google Workspace
    (
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\r\n421 4.7.28 from your IP "
        "address. To protect our users from spam, mail has been temporarily rate limited.",
        "rate_limited",
        "route",
    ),
    ("550 5.7.28 There is an unusual rate of unsolicited mail originating from your IP", "rate_limited", "route"),
    ("421 4.7.0 Try again later, closing connection. gsmtp", "service_closing", "route"),
    ("421 4.7.0 IP not in whitelist for RCPT domain, closing connection.", "service_closing", "route"),
    ("550 5.7.1 Mail relay denied [192.0.2.1]. Visit the admin page", "relay_denied", "ours"),
    ("550 5.7.0 Mail Sending denied", "account_suspended", "ours"),
    (
        "550-5.7.1 [192.0.2.1] The IP you're using to send mail is not authorized to\r\n"
        "550 5.7.1 send email directly to our servers.",
        "client_refused",
        "ours",
    ),
    ("550 5.7.25 The IP address sending this message does not have a PTR record setup", "reverse_dns_missing", "ours"),
    (
        "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\r\n"
        "550 5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.",
        "sender_unauthenticated",
        "sender",
    ),
    (
        "550 5.7.26 Unauthenticated email from acme.example is not accepted due to domain's DMARC policy.",
        "sender_unauthenticated",
        "sender",
    ),
    ("530 5.7.0 Must issue a STARTTLS command first. gsmtp", "tls_required", "ours"),
    ("530-5.5.1 Authentication Required. Learn more at\r\n530 5.5.1 https://support.example/", "auth_failed", "ours"),
    ("452 4.5.3 Domain policy size per transaction exceeded", "too_many_recipients", "route"),
    (
        "550-5.7.1 Our system has detected that this message is likely suspicious due to\r\n"
        "550 5.7.1 the very low reputation of the sending IP address.",
        "reputation_low",
        "ours",
    ),
    (
        "550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of "
        "the sending domain.",
        "sender_blocklisted",
        "sender",
    ),
    ("452 4.3.1 Insufficient system storage", "server_full", "route"),
    # Microsoft 365, Outlook.com, Exchange
    ("451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)", "rate_limited", "route"),
    ("451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited", "rate_limited", "route"),
    (
        "451 4.7.652 The mail server [192.0.2.1] has exceeded the maximum number of connections.",
        "too_many_connections",
        "route",
    ),
    ("421 4.3.2 The maximum number of concurrent server connections has exceeded a limit", "too_many_connections", "route"),
    ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.example", "too_many_connections", "route"),
    ("550 5.2.2 Submission quota exceeded", "sending_quota_exceeded", "ours"),
    (
        "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
        "sending_quota_exceeded",
        "ours",
    ),
    ("550 5.7.501 Access denied, spam abuse detected", "account_suspended", "ours"),
    ("550 5.7.502 Access denied, banned sender", "sender_blocklisted", "sender"),
    ("550 5.7.506 Access Denied, Bad HELO", "helo_refused", "ours"),
    (
        "550 5.7.508 Access denied, [192.0.2.1] has exceeded permitted limits within the range",
        "rate_limited",
        "route",
    ),
    (
        "550 5.7.509 Access denied, sending domain acme.example does not pass DMARC verification and has a DMARC "
        "policy of reject.",
        "sender_unauthenticated",
        "sender",
    ),
    ("550 5.7.511 Access denied, banned sender[192.0.2.1]", "sender_blocklisted", "sender"),
    (
        "550 5.7.515 Access denied, sending domain acme.example doesn't meet the required authentication level.",
        "sender_unauthenticated",
        "sender",
    ),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "blocklisted", "ours"),
    ("550 5.7.705 Access denied, tenant has exceeded threshold", "sending_quota_exceeded", "ours"),
    (
        "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains",
        "account_suspended",
        "ours",
    ),
    ("530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM", "auth_failed", "ours"),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", "sender_refused", "sender"),
    ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "relay_denied", "ours"),
    ("550 5.7.64 TenantAttribution; Relay Access Denied SMTP", "relay_denied", "ours"),
    (
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service "
        "provider since part of their network is on our block list (S3140).",
        "blocklisted",
        "ours",
    ),
    (
        "550 DY-001 Mail rejected for policy reasons. We generally do not accept email from dynamic IP's",
        "blocklisted",
        "ours",
    ),
    (
        "421 RP-001 The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed.",
        "rate_limited",
        "route",
    ),
    ("454 4.7.0 Temporary authentication failure; throttled", "rate_limited", "route"),
    # Yahoo
    (
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
        "rate_limited",
        "route",
    ),
    (
        "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",
        "blocklisted",
        "ours",
    ),
    # SendGrid, Mailgun, Brevo, Zoho, Postmark, Mandrill
    ("550 Unauthenticated senders not allowed", "auth_failed", "ours"),
    ("451 Authentication failed: Maximum credits exceeded", "sending_quota_exceeded", "ours"),
    ("451 You have exceeded your messaging limits", "sending_quota_exceeded", "ours"),
    ("525 5.7.1 Unauthorized IP address", "client_refused", "ours"),
    ("550 5.7.0 Your SMTP account is not yet activated", "account_suspended", "ours"),
    ("554 5.1.8 Email Outgoing Blocked", "account_suspended", "ours"),
    ("550 5.4.6 Unusual sending activity detected. Please try after sometime", "rate_limited", "route"),
    ("553 Relaying disallowed as a@acme.example", "relay_denied", "ours"),
    (
        "421 Domain acme.example is not allowed to send: The domain is unverified and requires DNS configuration.",
        "sender_refused",
        "sender",
    ),
    ("550 Sender signature not found", "sender_refused", "sender"),
    # Postfix, Exim, sendmail, cPanel
    ("450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]", "reverse_dns_missing", "ours"),
    ("450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", "reverse_dns_missing", "ours"),
    ("450 4.1.8 <a@acme.example>: Sender address rejected: Domain not found", "sender_refused", "sender"),
    (
        "550 5.1.0 <a@acme.example>: Sender address rejected: User unknown in virtual mailbox table",
        "sender_refused",
        "sender",
    ),
    ("554 5.7.1 <maria@example.net>: Relay access denied", "relay_denied", "ours"),
    ("454 4.7.1 <maria@example.net>: Relay access denied", "relay_denied", "ours"),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocklisted", "ours"),
    ("450 4.7.1 Error: too much mail from 192.0.2.1", "rate_limited", "route"),
    ("421 4.7.0 mx.example Error: too many connections from 192.0.2.1", "too_many_connections", "route"),
    ("450 4.7.1 Error: too many recipients from 192.0.2.1 per hour", "rate_limited", "route"),
    ("421 4.4.2 mx.example Error: timeout exceeded", "service_closing", "route"),
    ("421 4.7.0 mx.example Error: too many errors", "service_closing", "route"),
    ("421 too many messages in this connection", "service_closing", "route"),
    ("421 4.3.0 mx.example Too many messages for this session", "service_closing", "route"),
    ("550 relay not permitted, authentication required", "relay_denied", "ours"),
    ("550-Verification failed for <a@acme.example>\r\n550-Unrouteable address\r\n550 Sender verify failed", "sender_refused", "sender"),
    ("550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "helo_refused", "ours"),
    ("550 Access denied", "client_refused", "ours"),
    ("550 5.7.1 Access denied", "client_refused", "ours"),
    ("550 Domain acme.example has exceeded the max emails per hour (30/25 (120%)) allowed.", "sending_quota_exceeded", "ours"),
    (
        "550 Domain acme.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed.",
        "sending_quota_exceeded",
        "ours",
    ),
    ('550 Outgoing mail from "a@acme.example" has been suspended.', "account_suspended", "ours"),
    ("553 5.1.8 <a@acme.example>... Domain of sender address a@acme.example does not exist", "sender_refused", "sender"),
    ("550 5.7.1 Your account has been suspended", "account_suspended", "ours"),
    ("550 5.7.1 Sender account suspended", "account_suspended", "ours"),
    ("550 5.7.1 Authenticated user blocked", "account_suspended", "ours"),
    ("550 5.7.1 too many invalid recipients", "client_refused", "ours"),
    ("503 5.5.1 need MAIL first", "out_of_sequence", "route"),
    ("503 5.5.1 EHLO/HELO first", "out_of_sequence", "route"),
    ("550 5.3.2 System not accepting network messages", "server_unavailable", "route"),
    ("451 4.4.5 Insufficient system resources", "server_unavailable", "route"),
    # Brazil
    ("450 4.7.1 <a@acme.example>: Sender address rejected: limite de envio por hora atingido", "sending_quota_exceeded", "ours"),
    ("554 5.7.1 Limite de envio excedido", "sending_quota_exceeded", "ours"),
    ("554 5.7.1 Limite diário atingido", "sending_quota_exceeded", "ours"),
    ("550 5.7.1 IP bloqueado. Consulte https://postmaster.example", "blocklisted", "ours"),
    ("553 5.7.1 Remetente não autorizado", "sender_refused", "sender"),
    ("550 5.7.1 Autenticação obrigatória", "auth_failed", "ours"),
    ("554 5.7.1 Seu servidor nao possui DNS reverso", "reverse_dns_missing", "ours"),
    # The recipients' whole domain
    ("550 5.7.1 The domain is suspended", "destination_refused", "destination"),
    ("450 4.7.1 Domain has been disabled", "destination_refused", "destination"),
]

# Of this recipient, for good: reason, and whether the address is dead.
BOUNCED = [
    ("550 5.1.1 <maria@example.net>: Recipient address rejected: User unknown in relay recipient table", "mailbox_unknown", "hard"),
    ("550 5.1.1 user unknown", "mailbox_unknown", "hard"),
    ("554 5.7.1 <maria@example.net>: Recipient address rejected: User unknown", "mailbox_unknown", "hard"),
    (
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
        "550 5.1.1 double-checking the recipient's email address for typos",
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
    ("552 5.2.2 The email account that you tried to reach is over quota and inactive. OverQuotaPerm", "mailbox_full", "soft"),
    ("552 Mailbox full", "mailbox_full", "soft"),
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
    ("552-5.2.3 Your message exceeded our message size limits.\r\n552 5.2.3 https://support.example", "message_too_large"),
    ("552 too much mail data", "message_too_large"),
    ("552 5.7.0 This message was blocked because its content presents a potential security issue.", "content_refused"),
    ("554 5.6.0 Mail message is malformed.", "content_refused"),
    ("550 5.7.1 Messages missing a valid header are refused: message must be RFC 5322 compliant", "content_refused"),
    ("500 Line too long", "content_refused"),
    ("550 5.7.1 virus found", "malware"),
    ("550-5.7.1 [192.0.2.1 19] Our system has detected that this message is\r\n550 5.7.1 likely unsolicited mail.", "spam"),
    ("550 5.7.1 Message rejected as spam", "spam"),
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
    ("450 4.2.0 <maria@example.net>: Recipient address rejected: Greylisted, see http://postgrey.example", "greylisted"),
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
