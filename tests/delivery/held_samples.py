"""What servers say of us, of the sender, of the route and of a whole domain: the reply, the reason, the scope.

Names and addresses are invented.
"""

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
        (
            "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've\r\n550 5.7.1 registered in your "
            "Workspace SMTP Relay service doesn't match domain of the account"
        ),
        "relay_denied",
        "ours",
    ),
    ("550 5.7.708 Access denied, traffic not accepted from this IP", "blocklisted", "ours"),
    ("550 5.1.8 Access denied, bad outbound sender AS(42004)", "sender_refused", "sender"),
    (
        (
            "554 5.2.252 SendAsDenied; a@acme.example not allowed to send as b@acme.example; "
            "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"
        ),
        "sender_refused",
        "sender",
    ),
    ("550 The from address does not match a verified Sender Identity", "sender_refused", "sender"),
    # Amazon SES
    ("454 Throttling failure: Maximum sending rate exceeded.", "rate_limited", "route"),
    ("454 Throttling failure: Daily message quota exceeded.", "sending_quota_exceeded", "ours"),
    (
        (
            "554 Message rejected: Email address is not verified. The following identities failed the check in region "
            "EU-WEST-1: a@acme.example"
        ),
        "sender_refused",
        "sender",
    ),
    ("530 Authentication required", "auth_failed", "ours"),
    ("535 Authentication Credentials Invalid", "auth_failed", "ours"),
    ("421 Too many concurrent SMTP connections; please try again later.", "too_many_connections", "route"),
    ("421 Timeout waiting for data from client.", "service_closing", "route"),
    # Gmail and Google Workspace
    (
        (
            "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\r\n421 4.7.28 from your IP "
            "address. To protect our users from spam, mail has been temporarily rate limited."
        ),
        "rate_limited",
        "route",
    ),
    ("550 5.7.28 There is an unusual rate of unsolicited mail originating from your IP", "rate_limited", "route"),
    ("421 4.7.0 Try again later, closing connection. gsmtp", "service_closing", "route"),
    ("421 4.7.0 IP not in whitelist for RCPT domain, closing connection.", "service_closing", "route"),
    ("550 5.7.1 Mail relay denied [192.0.2.1]. Visit the admin page", "relay_denied", "ours"),
    ("550 5.7.0 Mail Sending denied", "account_suspended", "ours"),
    (
        (
            "550-5.7.1 [192.0.2.1] The IP you're using to send mail is not authorized to\r\n"
            "550 5.7.1 send email directly to our servers."
        ),
        "client_refused",
        "ours",
    ),
    ("550 5.7.25 The IP address sending this message does not have a PTR record setup", "reverse_dns_missing", "ours"),
    (
        (
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\r\n"
            "550 5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM."
        ),
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
        (
            "550-5.7.1 Our system has detected that this message is likely suspicious due to\r\n"
            "550 5.7.1 the very low reputation of the sending IP address."
        ),
        "reputation_low",
        "ours",
    ),
    (
        (
            "550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of "
            "the sending domain."
        ),
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
    (
        "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit",
        "too_many_connections",
        "route",
    ),
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
        (
            "550 5.7.509 Access denied, sending domain acme.example does not pass DMARC verification and has a DMARC "
            "policy of reject."
        ),
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
        (
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service "
            "provider since part of their network is on our block list (S3140)."
        ),
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
    (
        "550-Verification failed for <a@acme.example>\r\n550-Unrouteable address\r\n550 Sender verify failed",
        "sender_refused",
        "sender",
    ),
    ("550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "helo_refused", "ours"),
    ("550 Access denied", "client_refused", "ours"),
    ("550 5.7.1 Access denied", "client_refused", "ours"),
    (
        "550 Domain acme.example has exceeded the max emails per hour (30/25 (120%)) allowed.",
        "sending_quota_exceeded",
        "ours",
    ),
    (
        "550 Domain acme.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed.",
        "sending_quota_exceeded",
        "ours",
    ),
    ('550 Outgoing mail from "a@acme.example" has been suspended.', "account_suspended", "ours"),
    (
        "553 5.1.8 <a@acme.example>... Domain of sender address a@acme.example does not exist",
        "sender_refused",
        "sender",
    ),
    ("550 5.7.1 Your account has been suspended", "account_suspended", "ours"),
    ("550 5.7.1 Sender account suspended", "account_suspended", "ours"),
    ("550 5.7.1 Authenticated user blocked", "account_suspended", "ours"),
    ("550 5.7.1 too many invalid recipients", "client_refused", "ours"),
    ("503 5.5.1 need MAIL first", "out_of_sequence", "route"),
    ("503 5.5.1 EHLO/HELO first", "out_of_sequence", "route"),
    ("550 5.3.2 System not accepting network messages", "server_unavailable", "route"),
    ("451 4.4.5 Insufficient system resources", "server_unavailable", "route"),
    ("550 #5.7.1 Your access to submit messages to this e-mail system has been rejected.", "client_refused", "ours"),
    ("550 Ip frequency limited", "rate_limited", "route"),
    ("550 5.7.1 Too many spam from your IP", "blocklisted", "ours"),
    ("550 5.7.1 Email rejected per SPF policy", "sender_unauthenticated", "sender"),
    ("554 Blocked - see https://ipcheck.example", "blocklisted", "ours"),
    # Brazil
    (
        "450 4.7.1 <a@acme.example>: Sender address rejected: limite de envio por hora atingido",
        "sending_quota_exceeded",
        "ours",
    ),
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
