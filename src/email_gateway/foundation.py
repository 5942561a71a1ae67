"""What every process of the fleet stands on: its secrets, its database, its keys; opened and proven in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.errors import ConfigurationError, DatabaseUnavailable
from email_gateway.observe import get_logger
from email_gateway.secrets import SecretsService
from email_gateway.settings import Settings
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


@contextlib.asynccontextmanager
async def open_foundation(settings: Settings) -> AsyncIterator[Foundation]:
    """Fetch the secrets, prove the database durable and current, and prove the root key against it.

    Raises ConfigurationError, WrongRootKey or SchemaMismatch for what an operator must change, and
    SecretUnavailable or DatabaseUnavailable for what may pass by itself.
    """
    for warning in settings.warnings:
        log.warning(warning)
    secrets = await SecretsService.start(settings)
    try:
        db = await connect(database_url(settings, secrets))
        try:
            await require_current(db)
            keyring = await _open_vault(db, secrets)
            yield Foundation(settings, secrets, db, keyring)
        finally:
            await db.close()
    finally:
        await secrets.close()


def database_url(settings: Settings, secrets: SecretsService) -> str:
    """Return the database's URL: the secret when there is one, else the setting."""
    secret = secrets.find("database-url")
    url = secret.value if secret else settings.database_url
    if not url:
        raise ConfigurationError("no database: set DATABASE_URL, or run `email-gateway up` for an embedded one")
    return url


async def connect(url: str, *, patience: timedelta = DATABASE_PATIENCE) -> Database:
    """Connect to the database, waiting while it starts or recovers; then raises DatabaseUnavailable."""
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return await Database.connect(url)
        except DatabaseUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("database_awaited", error=error)
        await asyncio.sleep(RETRY_EVERY.total_seconds())


async def _open_vault(db: Database, secrets: SecretsService) -> Keyring:
    return await Keyring.start(db, SecretsRoots(secrets))
