"""Everything on one machine: the embedded PostgreSQL, the api and a worker, started, watched and stopped in order."""

import asyncio
import os
import pwd
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.errors import ConfigurationError, DatabaseUnavailable, OperatorError
from email_gateway.foundation import EMBEDDED, DatabaseSource, find_database_source
from email_gateway.observe import configure_logging, get_logger
from email_gateway.secrets import SecretName, SecretsService
from email_gateway.settings import DATABASE_IS_EMBEDDED, Settings, load_settings
from email_gateway.store.failures import naming
from email_gateway.store.logins import LOGINS, MIGRATOR, PROCESS, prepare_logins
from email_gateway.up.children import Child, Role, end_all, next_due, require_startable
from email_gateway.up.emulator import Emulator
from email_gateway.up.first_account import DatabaseUrls, Prepared, prepare
from email_gateway.up.handing import secrets_of
from email_gateway.up.home import Credentials, Home, Runtime
from email_gateway.up.listening import listen_each, reach
from email_gateway.up.processes import LOOK_EVERY_SECONDS, api_roles
from email_gateway.up.readiness import Readiness
from email_gateway.up.signals import Interrupted, StopSignals

log = get_logger(__name__)

READY_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person at the command line asked for; `port` None takes the setting.

    `emulates_aws` has the secrets come from an AWS that runs beside the gateway and ends with it.
    """

    home: Path
    port: int | None = None
    wants_link: bool = True
    emulates_aws: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """What there is to tell once mail is accepted. `login_url` works once, within ten minutes.

    `emulator_url` is where the emulated AWS answers, if that was asked for.
    """

    home: Home
    settings: Settings
    credentials: Credentials
    admin_key: str = field(repr=False)
    base_url: str
    database_url: str = field(repr=False)
    login_url: str | None = field(repr=False)
    is_new_api_key: bool
    took: timedelta
    emulator_url: str | None = None

    @property
    def api_url(self) -> str:
        return f"{self.base_url}/v1"

    @property
    def dashboard_url(self) -> str:
        return f"{self.base_url}/dashboard"


def run_up(wishes: Wishes, announce: Callable[[Running], None]) -> None:
    """Run everything until a signal asks to stop, and leave nothing running. Main thread only.

    Raises ConfigurationError, or another GatewayError, when it cannot start.
    """
    home = Home(wishes.home)
    with StopSignals() as signals, home.held():
        if wishes.emulates_aws:
            home.require_new()
        gateway = _Gateway(home, wishes, signals)
        try:
            with signals.interrupting():
                gateway.start()
            announce(gateway.describe())
            gateway.keep()
        except Interrupted:
            log.info("start_abandoned")
        finally:
            gateway.stop()


class _Gateway:
    def __init__(self, home: Home, wishes: Wishes, signals: StopSignals) -> None:
        self._home = home
        self._wishes = wishes
        self._signals = signals
        self._postgres: EmbeddedPostgres | None = None
        self._emulator: Emulator | None = None
        self._children: list[Child] = []
        self._listeners: list[socket.socket] = []
        self._began = time.monotonic()

    def start(self) -> None:
        """Bring up each part when what it needs is there, and return when mail is accepted."""
        found = self._home.find_credentials()
        credentials = found or Credentials.make()
        asked = {} if self._wishes.port is None else {"API_PORT": str(self._wishes.port)}
        if self._wishes.emulates_aws:
            self._emulator = Emulator.start()
        self._settings = settings = load_settings(handed=asked, generated=credentials.as_settings())
        configure_logging(settings.log_format, settings.log_level)
        _refuse_what_runs_apart(settings)
        self._listeners = listen_each(settings.api_host, settings.api_port, settings.api_processes)
        if found is None:
            credentials = _in_force(credentials, settings)
            self._home.keep_credentials(credentials)
        if self._emulator is not None:
            self._emulator.fill(settings)
        configured, self._admin_key = asyncio.run(_read_secrets(settings))
        self._urls = DatabaseUrls(configured.url, configured.url) if configured else self._start_postgres()
        operator = _name_of_user() if self._wishes.wants_link else None
        with naming(configured.name if configured else EMBEDDED):
            self._prepared: Prepared = asyncio.run(prepare(self._urls, credentials, operator))
        if self._prepared.credentials != credentials:
            self._home.keep_credentials(self._prepared.credentials)
        self._start_children()
        self._await_ready()
        urls, told = self._urls, self.describe()
        self._home.publish(Runtime(os.getpid(), told.api_url, urls.processes, urls.migrations, told.emulator_url))

    def describe(self) -> Running:
        """Return what is to be told to whoever started this."""
        host, port = self._reached
        base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        token = self._prepared.login_token
        return Running(
            home=self._home,
            settings=self._settings,
            credentials=self._prepared.credentials,
            admin_key=self._admin_key,
            base_url=base,
            database_url=self._urls.processes,
            # In the fragment, which browsers do not send: it reaches no log and no proxy.
            login_url=f"{base}/dashboard/login#token={token}" if token else None,
            is_new_api_key=self._prepared.is_new_api_key,
            took=timedelta(seconds=time.monotonic() - self._began),
            emulator_url=self._emulator.url if self._emulator else None,
        )

    def keep(self) -> None:
        """Start again what falls, until a stop is asked for."""
        while not self._signals.requests:
            if self._emulator is not None:
                self._emulator.require_running()
            if self._postgres is not None:
                self._keep_postgres(self._postgres)
            for child in self._children:
                child.tend()
            self._signals.wait(next_due(self._children, LOOK_EVERY_SECONDS))

    def stop(self) -> None:
        """End the api and the worker when they have finished what they began, then PostgreSQL."""
        self._home.withdraw()
        for listener in self._listeners:
            listener.close()  # or who comes now would wait for an answer until we are gone
        end_all(self._children, self._signals)
        if self._emulator is not None:
            end_all([self._emulator.child], self._signals)
        if self._postgres is not None:
            self._postgres.stop()
        log.info("stopped")

    @property
    def _reached(self) -> tuple[str, int]:
        return reach(self._listeners[0])

    def _start_postgres(self) -> DatabaseUrls:
        self._postgres = postgres = EmbeddedPostgres(self._home.path)
        superuser_url = postgres.start()
        asyncio.run(prepare_logins(superuser_url, {login: postgres.password_of(login) for login in LOGINS}))
        return DatabaseUrls(migrations=postgres.url_of(MIGRATOR), processes=postgres.url_of(PROCESS))

    def _keep_postgres(self, postgres: EmbeddedPostgres) -> None:
        try:
            with self._signals.interrupting():
                if postgres.ensure_running():
                    log.warning("postgres_fell_and_is_back", pid=postgres.pid)
        except Interrupted:
            return
        except (DatabaseUnavailable, OperatorError):
            log.exception("postgres_is_away")

    def _start_children(self) -> None:
        _, port = self._reached
        handed = {**secrets_of(self._settings), "DATABASE_URL": self._urls.processes, "API_PORT": str(port)}
        if self._postgres is not None:
            handed[DATABASE_IS_EMBEDDED] = "true"
        roles = [*api_roles(self._listeners, handed), Role("worker", ("worker",), handed)]
        self._children = [Child(role) for role in roles]

    def _await_ready(self) -> None:
        readiness = Readiness(*self._reached)
        deadline = time.monotonic() + READY_WITHIN.total_seconds()
        try:
            while True:
                for child in self._children:
                    child.tend()
                require_startable(self._children)
                if readiness.ask(self._signals, 0.2):
                    return
                if time.monotonic() > deadline:
                    raise OperatorError(
                        f"the gateway was not ready within {READY_WITHIN.seconds} s: see the lines above"
                    )
                self._signals.wait(0.02)
        finally:
            readiness.close()


def _refuse_what_runs_apart(settings: Settings) -> None:
    if settings.tls_cert_file is not None or settings.database_iam_auth:
        raise ConfigurationError(
            "TLS_CERT_FILE and DATABASE_IAM_AUTH are for `email-gateway api`, `worker` and `migrate`, which run apart:"
            " unset them for `up`"
        )


def _in_force(made: Credentials, settings: Settings) -> Credentials:
    """Keep what the environment said at the first start: without it, later starts must open the same data."""
    return Credentials(
        settings.encryption_key or made.encryption_key,
        settings.encryption_salt or made.encryption_salt,
        settings.admin_api_key or made.admin_api_key,
    )


async def _read_secrets(settings: Settings) -> tuple[DatabaseSource | None, str]:
    """Return where the database is, if that is configured, and the admin key, from wherever secrets come from."""
    service = await SecretsService.start(settings)
    try:
        return find_database_source(settings, service), service.get(SecretName.ADMIN_API_KEY).value
    finally:
        await service.close()


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
