"""Opening connections: each proven durable, with a URL that may change while the process runs.

Keeping the connections is left to the pool (`database`) and to the listener (`listening`).
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from email_gateway.errors import (
    ConfigurationError,
    CredentialsRefused,
    DatabaseRefused,
    DatabaseUnavailable,
    GatewayError,
)
from email_gateway.observe import get_logger
from email_gateway.settings import is_verified
from email_gateway.store.failures import NOT_A_URL, refuses_credentials, translated

log = get_logger(__name__)

Opened = TypeVar("Opened")
Renew = Callable[[], AsyncIterator[str]]
# Makes the password for one login with this URL, where the URL has none.
MakePassword = Callable[[str], Awaitable[str]]

CONNECT_TIMEOUT_SECONDS = 5.0
COMMAND_TIMEOUT_SECONDS = 30.0
CLOSE_TIMEOUT_SECONDS = 1.0
# Requests wait for a renewal: it reads two versions of a secret and tries them, or they get a 503.
RENEWAL_TIMEOUT_SECONDS = 10.0
# After one that found nothing. Each asks AWS, and each candidate is a failed login for PostgreSQL.
RENEWAL_PAUSE_SECONDS = 5.0
SESSION = {
    "application_name": "email-gateway",
    "timezone": "UTC",
    # A pool that waits longer than this for a lock answers 503, which the caller may repeat.
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # Every statement here is short and prepared; compiling one costs more than running it.
    "jit": "off",
}
# For whoever runs few statements thousands of times, against tables that may grow from nothing within minutes.
# Left to itself the planner keeps a plan that it made while they were empty, which reads them from end to end,
# until they are analyzed. These plans are made once too, and always go by an index.
BY_INDEX = {
    **SESSION,
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

NO_AUTHORITY = (
    "PostgreSQL is to be verified, and the certificates of its authority cannot be read: put them into a file and name"
    " it with sslrootcert=FILE in the database's URL (docs/infrastructure.md has that of RDS)"
)

# The renewal that the running code is part of.
_renewal_around: ContextVar["asyncio.Task[None] | None"] = ContextVar("renewal_around", default=None)


class Connection(asyncpg.Connection):
    """A connection that is returned to the pool without a round trip.

    The driver would send RESET ALL and more each time. Nothing here changes a session: settings
    are SET LOCAL and locks belong to transactions. `generation` is its connector's when it began.
    """

    generation = 0

    def get_reset_query(self) -> str:
        return ""


class Connector:
    """Opens connections with the URL that works now.

    `renew` yields URLs to try where PostgreSQL refuses the credentials: it refreshes the secret
    first. `make_password` is asked for each connection. `session` are the settings of each. `watchers` are
    called right after the URL has changed; `generation` counts the changes.
    """

    def __init__(
        self,
        url: str,
        renew: Renew | None = None,
        make_password: MakePassword | None = None,
        *,
        session: Mapping[str, str] = SESSION,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation = 0
        self.watchers: set[Callable[[], None]] = set()
        self._url = url
        self._renew = renew
        self._make_password = make_password
        self._session = session
        self._monotonic = monotonic
        self._changing = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._refused_with: str | None = None  # the SQLSTATE, when the URL of now was refused
        self._rest_until = 0.0

    async def open(self) -> Connection:
        """Open a connection with the URL of now; raises as `open_connection`."""
        generation = self.generation
        try:
            connection = await open_connection(self._url, self._make_password, self._session)
        except DatabaseRefused as refused:
            # One that was begun before the URL changed says nothing of the new URL.
            if refuses_credentials(refused) and generation == self.generation:
                self._refused_with = refused.sqlstate
            raise
        connection.generation = generation
        return connection

    async def renewing(self, attempt: Callable[[], Awaitable[Opened]]) -> Opened:
        """Run `attempt`, which opens a connection here; once more when its credentials were renewed.

        All who are refused at the same time share one renewal, and for some seconds after one that
        found nothing there is no other. Raises CredentialsRefused when no URL works; without
        `renew` the refusal itself, DatabaseRefused.
        """
        try:
            return await attempt()
        except DatabaseRefused as refused:
            if self._renew is None or not refuses_credentials(refused):
                raise
            sqlstate = refused.sqlstate
        if await self._is_renewed(self._renew):
            try:
                return await attempt()
            except DatabaseRefused as refused:
                if not refuses_credentials(refused):
                    raise
        raise CredentialsRefused(sqlstate)

    async def use(self, url: str) -> None:
        """Open new connections with this URL from now on, once one has been opened with it.

        Calls take effect in their order. Raises as `open_connection`, and keeps the old URL then.
        """
        # It never waits for a renewal: the renewal may be waiting for us, when the secret that it
        # refreshes has told its subscribers.
        async with self._changing:
            if url != self._url:
                await prove(url, self._make_password)
                self._adopt(url)

    def close(self) -> None:
        """End the renewal under way; whoever waits for it gets CredentialsRefused."""
        if self._renewal is not None:
            self._renewal.cancel()

    def _adopt(self, url: str) -> None:
        if url == self._url:
            return
        self._url = url
        self.generation += 1
        self._refused_with = None
        self._rest_until = 0.0
        log.info("database_url_changed")
        for watcher in tuple(self.watchers):
            watcher()

    async def _is_renewed(self, renew: Renew) -> bool:
        """Tell whether the URL is another one than was refused, after the renewal under way or a new one."""
        if self._refused_with is None:
            return True
        if self._renewal is None or self._renewal.done():
            if self._monotonic() < self._rest_until:
                return False
            self._renewal = asyncio.create_task(self._run(renew), name="database-url")
        if _renewal_around.get() is self._renewal:
            return False  # `renew` itself asks the database for something: it would wait for itself
        await asyncio.wait([self._renewal])
        return self._refused_with is None

    async def _run(self, renew: Renew) -> None:
        _renewal_around.set(asyncio.current_task())
        try:
            async with asyncio.timeout(RENEWAL_TIMEOUT_SECONDS):
                await self._try_candidates(renew)
        except (GatewayError, TimeoutError) as error:
            log.warning("database_url_not_renewed", error=error)
        except Exception:
            # Requests wait for the answer, whatever is wrong with the source.
            log.exception("database_renewal_broke")
        if self._refused_with is not None:
            self._rest_until = self._monotonic() + RENEWAL_PAUSE_SECONDS
            log.error("database_credentials_refused", sqlstate=self._refused_with)

    async def _try_candidates(self, renew: Renew) -> None:
        refused, candidates = self._url, renew()
        try:
            async for url in candidates:
                if self._refused_with is None:
                    return  # `use` was called meanwhile
                if url != refused and await _is_usable(url, self._make_password):
                    if self._refused_with is not None:
                        self._adopt(url)
                    return
        finally:
            if isinstance(candidates, AsyncGenerator):  # one that was left early still has to clean up
                await candidates.aclose()


async def open_connection(
    url: str, make_password: MakePassword | None = None, session: Mapping[str, str] = SESSION
) -> Connection:
    """Open a connection, with these settings, to a server that keeps what it acknowledges (contract C1).

    `make_password` goes before the URL's password; what it raises is passed on. Raises ConfigurationError
    when the server would not (fsync or synchronous_commit off), when this is no URL, or when the certificates
    that it is to be verified with cannot be read, DatabaseRefused when PostgreSQL refuses the user, the password or the database's name,
    and DatabaseUnavailable when it is away or a standby.
    """
    try:
        with translated():
            try:
                connection: Connection = await asyncpg.connect(
                    url,
                    password=partial(make_password, url) if make_password else None,
                    timeout=CONNECT_TIMEOUT_SECONDS,
                    command_timeout=COMMAND_TIMEOUT_SECONDS,
                    server_settings=dict(session),
                    connection_class=Connection,
                )
            except (asyncpg.ClientConfigurationError, OSError):
                require_authority(url)
                raise
            try:
                await _prove_durable(connection)
            except BaseException:
                connection.terminate()
                raise
    except (ValueError, OverflowError):  # what urllib and the socket say of a port that is none
        raise ConfigurationError(NOT_A_URL) from None
    return connection


async def prove(url: str, make_password: MakePassword | None = None) -> None:
    """Open one connection with this URL and close it; raises as `open_connection`."""
    await close_connection(await open_connection(url, make_password))


def require_authority(url: str) -> None:
    """Raise ConfigurationError where a URL asks for a verified server and the authority's certificates cannot be read.

    The driver says of that only that a file is missing, or that the URL is wrong.
    """
    if not is_verified(url):
        return
    files = parse_qs(urlsplit(url).query).get(
        "sslrootcert", [str(Path("~/.postgresql/root.crt").expanduser())]
    )  # libpq's own default
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(files[-1])
    except OSError:  # also when there is no certificate in it
        raise ConfigurationError(NO_AUTHORITY) from None


async def close_connection(connection: Connection) -> None:
    """Close a connection that belongs to no pool; one that does not answer is cut off."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        connection.terminate()


@contextmanager
def explained() -> Iterator[None]:
    """Turn the refusal of a URL that has never worked into what an operator must change."""
    try:
        yield
    except (CredentialsRefused, DatabaseRefused) as refused:
        raise ConfigurationError(
            f"PostgreSQL refuses the login (SQLSTATE {refused.sqlstate}):"
            " check the user, the password and the database's name"
        ) from None


async def _is_usable(url: str, make_password: MakePassword | None) -> bool:
    try:
        await prove(url, make_password)
    except GatewayError as error:
        log.warning("database_url_not_usable", error=error)
        return False
    return True


async def _prove_durable(connection: Connection) -> None:
    """Refuse a server whose COMMIT can be lost, at every new connection: roles and failovers differ."""
    row = await connection.fetchrow(
        "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,"
        " pg_is_in_recovery() AS is_standby"
    )
    assert row is not None  # a SELECT without FROM returns one row
    if row["fsync"] != "on":
        raise ConfigurationError("PostgreSQL runs with fsync off and would lose accepted mail: set fsync = on")
    if row["synchronous_commit"] == "off":
        raise ConfigurationError(
            "PostgreSQL answers COMMIT before it is durable: set synchronous_commit = on for this role and database"
        )
    if row["is_standby"]:
        raise DatabaseUnavailable("PostgreSQL is a standby here: point the URL at the primary")
