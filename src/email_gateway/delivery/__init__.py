"""Delivery: one attempt to hand one message to a server, and what came of it.

Takes claims, returns outcomes, and writes no state. How mail leaves is a transport: through a
smarthost (`smtp`), or into the inbox, which sends nothing (`inbox`).
"""

from email_gateway.delivery.attempts import Delivery
from email_gateway.delivery.outgoing import OutgoingMail, Reached, Transport
from email_gateway.delivery.transports import open_transport
from email_gateway.mail.smarthosts import SmtpTarget, parse_smtp_url

__all__ = ["Delivery", "OutgoingMail", "Reached", "SmtpTarget", "Transport", "open_transport", "parse_smtp_url"]
