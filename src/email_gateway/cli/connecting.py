"""How a command finds the gateway it is about: its database, its address, and what is kept in the home."""

import contextlib
import os
import pwd
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from email_gateway.cli.exits import CommandFailed
from email_gateway.embedded import default_home
from email_gateway.foundation import DatabaseSource, find_database_source
from email_gateway.observe import configure_logging
from email_gateway.secrets import SecretsService
from email_gateway.settings import Settings, load_settings
from email_gateway.store.database import Database
from email_gateway.store.failures import naming
from email_gateway.up.home import Home
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots

KEYS = ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")
# A walk over many rows reads ahead while it writes.
VAULT_CONNECTIONS = 4


def load_without_keys() -> Settings:
    """Read the settings for a command that opens and seals nothing: the keys need not be set."""
    # Values that nobody knows, and that count only where the environment has none.
    settings = load_settings(generated={name: secrets.token_urlsafe(32) for name in KEYS})
    configure_logging(settings.log_format, settings.log_level)
    return settings


def load_with_keys(home: Path | None) -> Settings:
    """Read the settings for a command that opens or seals.

    Without Secrets Manager the keys are those of the environment, or those that an `up` keeps in
    its home; of a home that was named they go before the environment. Raises ConfigurationError
    when there are none.
    """
    credentials = open_home(home).find_credentials()
    kept = credentials.as_settings() if credentials else {}
    settings = load_settings(handed=kept if home else None, generated=kept)
    configure_logging(settings.log_format, settings.log_level)
    return settings


def open_home(home: Path | None) -> Home:
    """Return the home that was named, or the usual one; nothing is made."""
    return Home(home or default_home())


async def get_database(home: Path | None, *, for_migrations: bool = False) -> DatabaseSource:
    """Return where the database is: as the running `up` of a named home has it, else as the api and the workers find it.

    `for_migrations` asks for the owner's, where an `up` runs the server itself. Raises CommandFailed
    when there is none.
    """
    settings = load_without_keys()
    runtime = open_home(home).find_runtime()
    configured = await _find_configured(settings) if home is None or runtime is None else None
    if configured and home is None:
        return configured
    if runtime is not None:
        url = (for_migrations and runtime.migrations_url) or runtime.database_url
        return DatabaseSource(url, f"the gateway that runs in {open_home(home).path}")
    raise CommandFailed(
        f"there is no database to talk to: no gateway runs in {open_home(home).path}"
        + ("" if configured else ", and DATABASE_URL is not set"),
        "start `email-gateway up`, name the --home of one that runs, or set DATABASE_URL",
    )


async def _find_configured(settings: Settings) -> DatabaseSource | None:
    service = await SecretsService.start(settings)
    try:
        return find_database_source(settings, service)
    finally:
        await service.close()


@contextlib.asynccontextmanager
async def open_database(home: Path | None) -> AsyncIterator[Database]:
    """Connect to the gateway's database for the length of a command."""
    db = await _connect(await get_database(home), pool_size=1)
    try:
        yield db
    finally:
        await db.close()


async def _connect(source: DatabaseSource, pool_size: int) -> Database:
    with naming(source.name):
        return await Database.connect(source.url, pool_size=pool_size, make_password=source.make_password)


@contextlib.asynccontextmanager
async def open_secrets(home: Path | None) -> AsyncIterator[tuple[Database, SecretsRoots]]:
    """Connect to the database, and to where root keys come from, for the length of a command.

    That is Secrets Manager when it is on, else what `load_with_keys` says. Raises ConfigurationError
    or SecretUnavailable as the start of a process does.
    """
    settings = load_with_keys(home)
    source = await get_database(home)
    service = await SecretsService.start(settings)
    try:
        db = await _connect(source, VAULT_CONNECTIONS)
        try:
            yield db, SecretsRoots(service)
        finally:
            await db.close()
    finally:
        await service.close()


@contextlib.asynccontextmanager
async def open_vault(home: Path | None) -> AsyncIterator[tuple[Database, Keyring]]:
    """Connect to the database and open its vault; raises WrongRootKey as the start of a process does."""
    async with open_secrets(home) as (db, source):
        yield db, await Keyring.start(db, source)


def find_api_url(home: Path | None) -> str:
    """Return the API's address: of the running `up`, else as the settings have it. It ends in /v1."""
    settings = load_without_keys()
    runtime = open_home(home).find_runtime()
    if runtime is not None and (home is not None or not settings.database_url):
        return runtime.api_url
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    scheme = "https" if settings.tls_cert_file else "http"
    return f"{scheme}://{host}:{settings.api_port}/v1"


def name_of_user() -> str:
    """Return who runs the command, for the audit."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
