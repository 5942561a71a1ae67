"""What large providers publish about the pace of their servers, by host name. Pure: a table and a look-up.

It speaks of the server that we talk to, never of the recipient's domain behind a smarthost.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What a server bears from all of us together; None where nothing is known.

    `connections` at once, `per_second` mails, `mails` over one connection, `recipients` in one transaction.
    """

    connections: int | None = None
    per_second: float | None = None
    mails: int | None = None
    recipients: int | None = None


UNKNOWN = Shape()

# In Brazil, Terra (https://mail.terra.com.br/postmaster) and UOL (http://email.uol.com.br/ajuda/pm) ask for
# moderation without a figure; what they mean is learned from their replies.

# Read in November 2026. Where a provider says nothing itself, the figure is what KumoMTA ships
# (github.com/KumoCorp/kumomta, assets/policy-extras/shaping.toml, August 2026): what large senders found out.
SHAPES: Mapping[str, Shape] = {
    # Submission, each login by itself: three connections, 30 messages a minute.
    # https://learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements
    "smtp.office365.com": Shape(connections=3, per_second=30 / 60),
    # Submission with a mail program: 100 recipients a message. https://support.google.com/mail/answer/22839
    "smtp.gmail.com": Shape(recipients=100),
    # Relay for Workspace: it refers to RFC 5321, whose section 4.5.3.1.8 has every server take 100.
    # https://support.google.com/a/answer/2956491
    "smtp-relay.gmail.com": Shape(recipients=100),
    # From here on the servers that domains' MX records name. Gmail and Workspace; KumoMTA.
    "google.com": Shape(connections=5, mails=50),
    "googlemail.com": Shape(connections=5, mails=50),
    # Outlook.com and Hotmail, Microsoft 365, and its hosts with DANE; KumoMTA.
    "olc.protection.outlook.com": Shape(connections=5, mails=50),
    "mail.protection.outlook.com": Shape(connections=5, mails=50),
    "mx.microsoft": Shape(connections=5, mails=50),
    # Yahoo and AOL, as Yahoo told KumoMTA; https://senders.yahooinc.com/best-practices
    "yahoodns.net": Shape(mails=20),
    # iCloud; KumoMTA after https://support.apple.com/102322
    "mail.icloud.com": Shape(connections=10, mails=5),
    # Orange and Wanadoo; KumoMTA after https://postmaster.orange.fr
    "smtp-in.orange.fr": Shape(connections=2),
    # Comcast, as Comcast told KumoMTA; https://spa.xfinity.com/postmaster
    "comcast.net": Shape(connections=25, mails=1000),
}


def shape_of(host: str) -> Shape:
    """Return what is known of the server `host`: the entry that is its name, or the longest that ends it."""
    labels = host.lower().removesuffix(".").split(".")
    for start in range(len(labels)):
        if found := SHAPES.get(".".join(labels[start:])):
            return found
    return UNKNOWN
