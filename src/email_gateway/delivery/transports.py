"""Which transport the settings ask for, opened and closed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from email_gateway.delivery.inbox import InboxTransport
from email_gateway.delivery.outgoing import Transport
from email_gateway.delivery.pool import PoolLimits
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.errors import ConfigurationError
from email_gateway.mail.smarthosts import SmtpTarget, parse_smtp_url
from email_gateway.observe import get_logger
from email_gateway.secrets import SecretsService
from email_gateway.settings import Settings
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Courtesy:
    """What a server is known to want before it has said so: mails over one connection, recipients in one transaction."""

    mails: int | None = None
    recipients: int | None = None


@asynccontextmanager
async def open_transport(
    settings: Settings, secrets: SecretsService, db: Database, keyring: Keyring, courtesy: Courtesy = Courtesy()
) -> AsyncIterator[Transport]:
    """Open the transport that was chosen, and close it at the end.

    Raises ConfigurationError for `smtp` without a usable URL of the smarthost.
    """
    transport = _make(settings, secrets, db, keyring, courtesy)
    try:
        yield transport
    finally:
        await transport.close()


def find_host(settings: Settings, secrets: SecretsService) -> str | None:
    """Return the name of the server that this process hands mail to, None where it is no single one.

    Raises ConfigurationError as `open_transport` does.
    """
    if settings.transport != "smtp":
        return None
    return follow_smtp_url(lambda: _smtp_url(settings, secrets))().host


def _make(settings: Settings, secrets: SecretsService, db: Database, keyring: Keyring, courtesy: Courtesy) -> Transport:
    if settings.transport == "inbox":
        return InboxTransport(db, keyring, plays_servers=not settings.is_deployed)
    limits = PoolLimits(connections=settings.route_connections)
    if courtesy.mails is not None:
        limits = replace(limits, messages=min(limits.messages, courtesy.mails))
    find_target = follow_smtp_url(lambda: _smtp_url(settings, secrets))
    return SmtpTransport(
        find_target, timeouts=settings.smtp_timeouts, limits=limits, most_recipients=courtesy.recipients
    )


def _smtp_url(settings: Settings, secrets: SecretsService) -> str | None:
    secret = secrets.find("smtp-url")
    return secret.value if secret else settings.smtp_url


def follow_smtp_url(find_url: Callable[[], str | None]) -> Callable[[], SmtpTarget]:
    """Return what names the smarthost now: a changed URL counts from the next connection on.

    Raises ConfigurationError when there is none to begin with, or it does not parse; later a bad
    one is logged and the last good one stays.
    """
    url = find_url()
    try:
        if not url:
            raise ValueError("must be set: as SMTP_URL, or as the secret smtp-url")
        target = parse_smtp_url(url)
    except ValueError as wrong:
        raise ConfigurationError(f"TRANSPORT is smtp, and the SMTP URL {wrong}") from None

    def current() -> SmtpTarget:
        nonlocal url, target
        newest = find_url()
        if newest and newest != url:
            url = newest
            try:
                target = parse_smtp_url(newest)
            except ValueError:
                log.error("smtp_url_refused")
        return target

    return current
