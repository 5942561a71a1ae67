"""What every process of the fleet stands on: its secrets, its database, its keys; opened and proven in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from email_gateway.errors import ConfigurationError, DatabaseUnavailable, GatewayError, SecretUnavailable
from email_gateway.fleet import Fleet
from email_gateway.observe import REGISTRY, get_logger
from email_gateway.observe.emf import EmbeddedMetrics, emitting
from email_gateway.observe.serving import serving_metrics
from email_gateway.secrets import SecretName, SecretsService
from email_gateway.settings import Settings
from email_gateway.store.connecting import BY_INDEX, SESSION, MakePassword, Renew
from email_gateway.store.database import Database
from email_gateway.store.failures import naming
from email_gateway.store.instances import Identity
from email_gateway.store.migrations import require_current
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots

log = get_logger(__name__)

# As long as the secrets get: what may pass by itself is waited for, then a supervisor decides.
DATABASE_PATIENCE = timedelta(seconds=15)
EMBEDDED = "the embedded server"
RETRY_EVERY = timedelta(seconds=0.5)
# How the statements of each process are planned; the API also reads lists and sums.
SESSIONS = {"api": SESSION, "worker": BY_INDEX}


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
        db = await connect(
            get_database_source(settings, secrets), renew=lambda: renewed_urls(secrets), session=SESSIONS[process]
        )
        secrets.subscribe(lambda changed: follow_database_url(db, secrets, changed))
        try:
            await require_current(db)
            keyring = await Keyring.start(db, SecretsRoots(secrets))
            fleet = Fleet(db, secrets, keyring, process)
            await fleet.start()
            try:
                async with showing_metrics(settings, fleet.identity):
                    yield Foundation(settings, secrets, db, keyring, fleet)
            finally:
                await fleet.close()
        finally:
            await db.close()
    finally:
        await secrets.close()


@contextlib.asynccontextmanager
async def showing_metrics(settings: Settings, identity: Identity) -> AsyncIterator[None]:
    """Serve this process's metrics and write them for CloudWatch, where the settings say so."""
    async with contextlib.AsyncExitStack() as shown:
        if settings.metrics_listen is not None:
            await shown.enter_async_context(serving_metrics(settings.metrics_listen))
        if settings.metrics_emf:
            source = f"{identity.process} {identity.pid} on {identity.host}"
            metrics = EmbeddedMetrics(REGISTRY, gateway=settings.secrets_prefix, source=source)
            await shown.enter_async_context(emitting(metrics))
        yield


@dataclass(frozen=True, slots=True)
class DatabaseSource:
    """The database's URL, and what an operator knows it by; the name stands in errors.

    `make_password` is set where the URL's password does not count.
    """

    url: str = field(repr=False)
    name: str
    make_password: MakePassword | None = None


def get_database_source(settings: Settings, secrets: SecretsService) -> DatabaseSource:
    """Return where the database is; raises ConfigurationError when nobody says so."""
    if (source := find_database_source(settings, secrets)) is None:
        raise ConfigurationError("no database: set DATABASE_URL, or run `email-gateway up` for an embedded one")
    return source


def find_database_source(settings: Settings, secrets: SecretsService) -> DatabaseSource | None:
    """Return where the database is: the secret says so when there is one, else the setting."""
    secret = secrets.find(SecretName.DATABASE_URL)
    if secret is None:
        return None
    name = secrets.origin_of(SecretName.DATABASE_URL)
    is_ours = settings.is_database_embedded and secret.value == settings.database_url
    if is_ours:
        return DatabaseSource(secret.value, EMBEDDED)
    return DatabaseSource(secret.value, name, find_make_password(settings))


def find_make_password(settings: Settings) -> MakePassword | None:
    """Return what signs a token for each login to RDS, where the settings want that."""
    if not settings.database_iam_auth:
        return None
    from email_gateway.secrets.rds_tokens import RdsTokens  # noqa: PLC0415  (the AWS client takes 0.3 s to import)

    return RdsTokens(settings)


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
        with naming(secrets.origin_of(SecretName.DATABASE_URL)):
            await db.use(secret.value)
    except GatewayError as error:
        # The connections there are go on, and one that is refused later asks for the URL again.
        log.error("database_url_not_usable", version_id=secret.version_id, error=error)


async def connect(
    source: DatabaseSource,
    *,
    patience: timedelta = DATABASE_PATIENCE,
    renew: Renew | None = None,
    session: Mapping[str, str] = SESSION,
) -> Database:
    """Connect to the database, waiting while it starts or recovers; then raises DatabaseUnavailable."""
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            with naming(source.name):
                return await Database.connect(
                    source.url, renew=renew, make_password=source.make_password, session=session
                )
        except DatabaseUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("database_awaited", error=error)
        await asyncio.sleep(RETRY_EVERY.total_seconds())
