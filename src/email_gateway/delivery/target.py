"""Where mail is handed over and how long each step may take: the noun of `mail`, and the timeouts, as data."""

from dataclasses import dataclass
from datetime import timedelta

from email_gateway.mail.smarthosts import Credentials, SmtpTarget, Tls, parse_smtp_url

__all__ = ["Credentials", "SmtpTarget", "Timeouts", "Tls", "parse_smtp_url"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take: what RFC 5321 section 4.5.3.2 asks for, and Postfix's where it is silent.

    A timeout ends the wait for a whole reply, however slowly it drips. `attempt` bounds everything
    before the final dot; after the dot only `dot` counts, since giving up early makes duplicates.
    """

    connect: timedelta = timedelta(seconds=10)  # a probe of a server that drops packets must end soon
    tls: timedelta = timedelta(seconds=60)
    greeting: timedelta = timedelta(minutes=5)  # 4.5.3.2.1
    ehlo: timedelta = timedelta(minutes=5)
    auth: timedelta = timedelta(minutes=3)  # RFC 4954 section 4
    mail: timedelta = timedelta(minutes=5)  # 4.5.3.2.2
    rcpt: timedelta = timedelta(minutes=5)  # 4.5.3.2.3
    data: timedelta = timedelta(minutes=2)  # 4.5.3.2.4
    block: timedelta = timedelta(minutes=3)  # 4.5.3.2.5
    dot: timedelta = timedelta(minutes=10)  # 4.5.3.2.6
    reset: timedelta = timedelta(seconds=20)
    quit: timedelta = timedelta(seconds=5)
    attempt: timedelta = timedelta(minutes=15)
