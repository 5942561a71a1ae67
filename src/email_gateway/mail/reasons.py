"""The reasons that an attempt can have, as one table: whom each speaks of, what it means, what to do.

`docs/replies.md` is this table for people; a test compares the two.
"""

from dataclasses import dataclass

from email_gateway.mail.deliveries import Hardness, Scope


@dataclass(frozen=True, slots=True)
class Reason:
    """Whom a reason speaks of, what it means, and what an operator does.

    Without a scope of its own it speaks of whomever the command was about (`SCOPE_BY_STAGE`).
    """

    scope: Scope | None
    meaning: str
    to_do: str


WAIT = "Nothing to do: it passes by itself, and mail flows again then."

ROUTE = {
    "rate_limited": Reason(Scope.ROUTE, "The server takes no more mail a second than it takes now.", WAIT),
    "too_many_connections": Reason(Scope.ROUTE, "The server takes no more connections at a time.", WAIT),
    "too_many_recipients": Reason(
        Scope.ROUTE,
        "The server takes no more recipients in one transaction.",
        "Nothing to do: the rest goes in the next.",
    ),
    "service_closing": Reason(
        Scope.ROUTE, "The server ends the conversation.", "Wait; if it lasts for an hour, ask whoever runs the server."
    ),
    "server_full": Reason(
        Scope.ROUTE, "The server has no room to store mail.", "Ask whoever runs the server to make room."
    ),
    "server_unavailable": Reason(
        Scope.ROUTE, "The server takes no mail now.", "Wait; if it lasts for an hour, ask whoever runs the server."
    ),
    "connect_failed": Reason(
        Scope.ROUTE,
        "No connection to the server comes about.",
        "Check host and port in the secret `smtp-url`, the firewall, and that the server runs.",
    ),
    "connection_lost": Reason(
        Scope.ROUTE,
        "The server closes the connection without a word.",
        "Look into the server's own log for the reason.",
    ),
    "timeout": Reason(
        Scope.ROUTE,
        "The server does not answer in time.",
        "See whether the server is overloaded or a firewall drops packets.",
    ),
    "protocol_error": Reason(
        Scope.ROUTE,
        "What answers does not speak SMTP as expected.",
        "Check that host and port are those of a mail server.",
    ),
    "command_refused": Reason(
        Scope.ROUTE,
        "The server does not understand a command.",
        "Check that the port is that of a mail server; ask its operator.",
    ),
    "out_of_sequence": Reason(
        Scope.ROUTE,
        "The server wants another command first.",
        "Check whether it expects a login: user and password in `smtp-url`.",
    ),
    "auth_unavailable": Reason(
        Scope.ROUTE,
        "The server cannot check the login now.",
        "Wait; if it lasts for an hour, ask whoever runs the server.",
    ),
    "tls_refused": Reason(
        Scope.ROUTE,
        "The server refuses STARTTLS.",
        "Ask its operator; until then no mail leaves, since it would leave in clear.",
    ),
    "tls_not_offered": Reason(
        Scope.ROUTE,
        "The server does not offer the encryption that the settings ask for.",
        "Check the port in the secret `smtp-url` (587, or `smtps://` with 465).",
    ),
    "tls_failed": Reason(
        Scope.ROUTE,
        "The encrypted connection does not come about.",
        "Check that the port fits the scheme (`smtp://` with 587, `smtps://` with 465) and that the server speaks TLS 1.2.",
    ),
    "certificate_invalid": Reason(
        Scope.ROUTE,
        "The server's certificate is not trusted, has expired, or is for another name.",
        "Use the name in the certificate as the host of `smtp-url`, or have the server's certificate renewed.",
    ),
}

OURS = {
    "auth_failed": Reason(
        Scope.OURS,
        "The server refuses the login, or wants one.",
        "Put the right user and password into the secret `smtp-url`; mail flows by itself then.",
    ),
    "auth_not_offered": Reason(
        Scope.OURS,
        "The server offers no login that the gateway knows (PLAIN, LOGIN; XOAUTH2 for a token).",
        "Check the port and `tls=` in `smtp-url`: most servers offer a login only on 587 with `tls=required`, or on 465.",
    ),
    "client_certificate_unusable": Reason(
        Scope.OURS,
        "The files of our own certificate cannot be used.",
        "See that each worker can read the files that `cert` and `key` in `smtp-url` name, in PEM, without a passphrase.",
    ),
    "tls_required": Reason(
        Scope.OURS,
        "The server takes mail over encrypted connections only.",
        "Set `tls=required` in the secret `smtp-url`.",
    ),
    "relay_denied": Reason(
        Scope.OURS,
        "The server does not pass on mail for us.",
        "Give `smtp-url` a user and password, or have this host's address registered with the server.",
    ),
    "client_refused": Reason(
        Scope.OURS,
        "The server does not let this host in.",
        "Have this host's outgoing address allowed by whoever runs the server.",
    ),
    "helo_refused": Reason(
        Scope.OURS,
        "The server refuses the name by which this host introduces itself.",
        "Give the host a full domain name that resolves to its address.",
    ),
    "reverse_dns_missing": Reason(
        Scope.OURS,
        "This host's outgoing address has no name in the DNS, or one that does not lead back.",
        "Have the address's provider set a PTR record, and an address record for that name.",
    ),
    "blocklisted": Reason(
        Scope.OURS,
        "This host's outgoing address, or our account, is blocked.",
        "Look the address up at the list that the reply names, mend the cause, and ask for removal.",
    ),
    "reputation_low": Reason(
        Scope.OURS,
        "The server distrusts mail from our address, for what it has seen of it.",
        "Stop what draws complaints and bounces; the receiver's postmaster page says more.",
    ),
    "account_suspended": Reason(
        Scope.OURS,
        "The provider has stopped our account from sending.",
        "Read the provider's notice in its console, mend the cause, and ask for the account to be opened.",
    ),
    "permission_denied": Reason(
        Scope.OURS,
        "Our credentials are known and may not send.",
        "Give the provider's user or role the permission to send (for SES `ses:SendRawEmail`).",
    ),
    "sending_quota_exceeded": Reason(
        Scope.OURS,
        "Our account has sent all that it may in this period.",
        "Wait for the next period, or have the provider raise the limit.",
    ),
    "no_free_connection": Reason(
        Scope.OURS,
        "All connections of this process were busy for too long.",
        "Nothing to do once; if it lasts, add workers.",
    ),
}

SENDER = {
    "sender_refused": Reason(
        Scope.SENDER,
        "The server refuses the sender's address.",
        "Have the address or its domain verified with the provider, or allow our account to use it.",
    ),
    "sender_unauthenticated": Reason(
        Scope.SENDER,
        "The sender's domain does not vouch for this mail (SPF, DKIM, DMARC).",
        "Publish the SPF and DKIM records that the provider asks for in the sender domain's DNS.",
    ),
    "sender_blocklisted": Reason(
        Scope.SENDER,
        "The sender's address or domain is blocked.",
        "Look the domain up at the list that the reply names, mend the cause, and ask for removal.",
    ),
}

DESTINATION = {
    "destination_refused": Reason(
        Scope.DESTINATION,
        "The recipients' whole domain takes no mail now.",
        "Nothing to do here: its owner has to; discard what is not worth waiting for.",
    ),
    "routing_failed": Reason(
        Scope.DESTINATION, "The server finds no way to the recipients' domain.", "Check the domain's MX records."
    ),
}

_ADDRESS_GONE = "Correct the address where it comes from."
_TRIED_AGAIN = "Nothing to do while it is tried again; after that the recipient has to."

RECIPIENT = {
    "mailbox_unknown": Reason(Scope.RECIPIENT, "There is no such mailbox.", _ADDRESS_GONE),
    "domain_unknown": Reason(Scope.RECIPIENT, "The address's domain does not exist or takes no mail.", _ADDRESS_GONE),
    "mailbox_disabled": Reason(Scope.RECIPIENT, "The mailbox is switched off.", _ADDRESS_GONE),
    "address_invalid": Reason(Scope.RECIPIENT, "The address is not well formed.", _ADDRESS_GONE),
    "address_refused": Reason(Scope.RECIPIENT, "The server refuses the address and does not say why.", _ADDRESS_GONE),
    "recipient_refused": Reason(
        Scope.RECIPIENT, "The recipient does not take mail from this sender.", "Ask the recipient to allow the sender."
    ),
    "mailbox_full": Reason(Scope.RECIPIENT, "The mailbox is full.", _TRIED_AGAIN),
    "mailbox_unavailable": Reason(Scope.RECIPIENT, "The mailbox cannot be used.", _TRIED_AGAIN),
    "mailbox_busy": Reason(Scope.RECIPIENT, "The mailbox gets more mail than it may.", WAIT),
    "greylisted": Reason(Scope.RECIPIENT, "The server takes mail of newcomers at the second try.", WAIT),
}

MESSAGE = {
    "message_too_large": Reason(Scope.MESSAGE, "The message is larger than the server takes.", "Send less, or a link."),
    "content_refused": Reason(Scope.MESSAGE, "The server refuses this content.", "Change the content."),
    "malware": Reason(Scope.MESSAGE, "The server finds malware in the message.", "Look at the attachments."),
    "spam": Reason(Scope.MESSAGE, "The server takes the message for spam.", "Change the content."),
    "mail_loop": Reason(Scope.MESSAGE, "The message goes in a circle.", "Check where the address is forwarded to."),
    "expired_downstream": Reason(Scope.MESSAGE, "A later server gave the message up.", "Send it again."),
    "smtputf8_not_offered": Reason(
        Scope.MESSAGE, "The address needs SMTPUTF8, which the server does not offer.", "Use an address in ASCII."
    ),
    "lease_ended": Reason(Scope.OURS, "The attempt took longer than its claim; nothing was sent.", WAIT),
}

BY_STAGE = {
    "policy": Reason(None, "The server refuses by a rule that it does not explain.", "Ask whoever runs the server."),
    "server_trouble": Reason(None, "The server has a trouble of its own.", "Wait; if it lasts, ask whoever runs it."),
    "refused": Reason(None, "The server refuses and does not say why.", "Ask whoever runs the server."),
    "temporary_failure": Reason(
        None, "The server says not now, and not why.", "Wait; if it lasts, ask whoever runs it."
    ),
}

REASONS = ROUTE | OURS | SENDER | DESTINATION | RECIPIENT | MESSAGE | BY_STAGE

# The address itself is dead: a permanent refusal for one of these is a reason to suppress it.
DEAD_ADDRESS = frozenset({"mailbox_unknown", "domain_unknown", "mailbox_disabled"})
# They pass by themselves, also where the server says 5yz.
PASSING = frozenset({"greylisted", "mailbox_busy"})
THROTTLES = frozenset({"rate_limited", "too_many_connections"})
# This process's own trouble: it says nothing of the route, which must not be held for it.
LOCAL = frozenset({"no_free_connection", "lease_ended"})

_WHO = {
    Scope.SENDER: "It was said of the sender.",
    Scope.ROUTE: "It was said before any recipient was named.",
}


def is_throttle(reason: str) -> bool:
    """Whether a reason asks for less at a time; every other reason to hold is waited out with probes."""
    return reason in THROTTLES


def hardness_of(reason: str, *, is_permanent: bool) -> Hardness:
    """Return hard for a permanent word about a dead address, and soft for all else."""
    return Hardness.HARD if is_permanent and reason in DEAD_ADDRESS else Hardness.SOFT


def advice(reason: str, scope: Scope) -> str:
    """Return what a reason means and what an operator does next, in plain words without personal data."""
    entry = REASONS.get(reason) or REASONS["refused"]
    who = _WHO.get(scope) if entry.scope is not scope else None
    return " ".join(part for part in (entry.meaning, who, entry.to_do) if part)
