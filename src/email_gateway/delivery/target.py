"""Where mail is handed over and how long each step may take: the nouns of `mail`, in one place for this room."""

from email_gateway.mail.smarthosts import ClientCertificate, Credentials, SmtpTarget, Tls, parse_smtp_url
from email_gateway.mail.timeouts import Timeouts

__all__ = ["ClientCertificate", "Credentials", "SmtpTarget", "Timeouts", "Tls", "parse_smtp_url"]
