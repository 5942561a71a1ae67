"""What every process of the fleet stands on: its secrets, its database, its keys; opened and proven in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.errors import ConfigurationError, DatabaseUnavailable, GatewayError, SecretUnavailable
from email_gateway.fleet import Fleet
from email_gateway.observe import get_logger
from email_gateway.secrets import SecretName, SecretsService
from email_gateway.settings import Settings
from email_gateway.store.connecting import Renew
from email_gateway.store.database import Database
from email_gateway.store.migrations import require_current
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots

log = get_logger(__name__)

# As long as the secrets get: what may pass by itself is waited for, then a supervisor decides.
DATABASE_PATIENCE = timedelta(seconds=15)
RETRY_EVERY = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class Foundation:
    """Open and proven; closed by whoever opened it."""

    settings: Settings
    secrets: SecretsService
    db: Database
    keyring: Keyring
    fleet: Fleet


@contextlib.asynccontextmanager
async def open_foundation(settings: Settings, process: str) -> AsyncIterator[Foundation]:
    """Fetch the secrets, prove the database durable and current, prove the root key, and join the fleet.

    `process` is what operators call this one: api or worker. Raises ConfigurationError, WrongRootKey
    or SchemaMismatch for what an operator must change, and SecretUnavailable or DatabaseUnavailable
    for what may pass by itself.
    """
    for warning in settings.warnings:
        log.warning(warning)
    secrets = await SecretsService.start(settings)
    try:
        db = await connect(database_url(settings, secrets), renew=lambda: renewed_urls(secrets))
        secrets.subscribe(lambda changed: follow_database_url(db, secrets, changed))
        try:
            await require_current(db)
            keyring = await Keyring.start(db, SecretsRoots(secrets))
            fleet = Fleet(db, secrets, keyring, process)
            await fleet.start()
            try:
                yield Foundation(settings, secrets, db, keyring, fleet)
            finally:
                await fleet.close()
        finally:
            await db.close()
    finally:
        await secrets.close()


def database_url(settings: Settings, secrets: SecretsService) -> str:
    """Return the database's URL: the secret when there is one, else the setting."""
    secret = secrets.find(SecretName.DATABASE_URL)
    url = secret.value if secret else settings.database_url
    if not url:
        raise ConfigurationError("no database: set DATABASE_URL, or run `email-gateway up` for an embedded one")
    return url


async def renewed_urls(secrets: SecretsService) -> AsyncIterator[str]:
    """Yield what the database's URL may be after it refused ours: the current secret, read anew, then the pending one.

    A rotation changes the password on the server first, and moves the secret's label after it.
    """
    if not secrets.can_change:
        return
    await secrets.refresh()
    if (current := secrets.find(SecretName.DATABASE_URL)) is None:
        return
    yield current.value
    with contextlib.suppress(SecretUnavailable):  # no rotation is under way
        yield (await secrets.fetch_pending(SecretName.DATABASE_URL)).value


async def follow_database_url(db: Database, secrets: SecretsService, changed: frozenset[str]) -> None:
    """Have new connections use a URL that changed; those in use finish what they are at."""
    secret = secrets.find(SecretName.DATABASE_URL)
    if SecretName.DATABASE_URL not in changed or secret is None:
        return
    try:
        await db.use(secret.value)
    except GatewayError as error:
        # The connections there are go on, and one that is refused later asks for the URL again.
        log.error("database_url_not_usable", version_id=secret.version_id, error=error)


async def connect(url: str, *, patience: timedelta = DATABASE_PATIENCE, renew: Renew | None = None) -> Database:
    """Connect to the database, waiting while it starts or recovers; then raises DatabaseUnavailable."""
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return await Database.connect(url, renew=renew)
        except DatabaseUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("database_awaited", error=error)
        await asyncio.sleep(RETRY_EVERY.total_seconds())
