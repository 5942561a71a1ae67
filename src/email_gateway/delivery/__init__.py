"""Delivery: one attempt to hand one message to a server, and what came of it.

Takes claims, returns outcomes, and writes no state. How mail leaves is a transport: through a
smarthost (`smtp`), or into the inbox, which sends nothing (`inbox`).
"""

from email_gateway.delivery.attempts import Delivery
from email_gateway.delivery.outgoing import OutgoingMail, Reached, Transport
from email_gateway.delivery.transports import Courtesy, find_host, open_transport
from email_gateway.mail.smarthosts import SmtpTarget, parse_smtp_url

__all__ = [
    "Courtesy",
    "Delivery",
    "OutgoingMail",
    "Reached",
    "SmtpTarget",
    "Transport",
    "find_host",
    "open_transport",
    "parse_smtp_url",
]
