"""The one place that imports the PostgreSQL driver: a pool, transactions, and its errors in our words."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol, Self

import asyncpg

from email_gateway.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, LockTimeout, SchemaMismatch

Record = asyncpg.Record

CONNECT_TIMEOUT_SECONDS = 5.0
COMMAND_TIMEOUT_SECONDS = 30.0
ACQUIRE_TIMEOUT_SECONDS = 2.0
CLOSE_TIMEOUT_SECONDS = 5.0
# A pool that waits longer than this for a lock answers 503, which the caller may repeat.
SESSION = {
    "application_name": "email-gateway",
    "timezone": "UTC",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # Every statement here is short and prepared; compiling one costs more than running it.
    "jit": "off",
}

# SQLSTATE classes that pass by themselves: connection, transaction rollback, resources,
# operator intervention, system error; and two single states.
PASSING_CLASSES = ("08", "40", "53", "57", "58")
PASSING_STATES = ("25006",)  # read-only transaction: a standby
LOCK_TIMEOUT_STATE = "55P03"
NOT_A_URL = "DATABASE_URL is not a PostgreSQL URL: postgresql://user:password@host:5432/database"
MISSING_STATES = ("42P01", "42703", "42883", "3F000")  # table, column, function, schema


class Queries(Protocol):
    """What runs statements: the pool (each its own transaction) or an open transaction."""

    async def fetch(self, sql: str, *args: object) -> list[Record]: ...
    async def fetch_one(self, sql: str, *args: object) -> Record | None: ...
    async def execute(self, sql: str, *args: object) -> str: ...


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; their text is dropped, since DETAIL quotes values."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state in MISSING_STATES:
            raise SchemaMismatch(
                f"the database lacks something this release needs ({state}); run `email-gateway migrate`"
            ) from None
        if state == LOCK_TIMEOUT_STATE:
            raise LockTimeout("another transaction held a lock for too long") from None
        if state[:2] in PASSING_CLASSES or state in PASSING_STATES:
            raise DatabaseUnavailable(f"PostgreSQL cannot answer now ({state})") from None
        raise DatabaseRefused(state, getattr(error, "constraint_name", None)) from None
    except asyncpg.ClientConfigurationError:
        raise ConfigurationError(NOT_A_URL) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, ssl.SSLError) as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached ({type(error).__name__})") from None


class Transaction:
    """Statements of one transaction on one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        with translated():
            rows: list[Record] = await self._connection.fetch(sql, *args)
            return rows

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        with translated():
            row: Record | None = await self._connection.fetchrow(sql, *args)
            return row

    async def execute(self, sql: str, *args: object) -> str:
        with translated():
            status: str = await self._connection.execute(sql, *args)
            return status


class Connection(asyncpg.Connection):
    """A connection that is returned to the pool without a round trip.

    The driver would send RESET ALL and more each time. Nothing here changes a session: settings
    are SET LOCAL and locks belong to transactions.
    """

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections, each proven durable before its first use (contract C1)."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, url: str, *, pool_size: int = 10) -> Self:
        """Open the pool.

        Raises ConfigurationError when the server would lose what it acknowledged (fsync or
        synchronous_commit off) or when the URL is refused, DatabaseUnavailable when it is away.
        """
        try:
            with translated():
                pool = await asyncpg.create_pool(
                    url,
                    min_size=1,
                    max_size=pool_size,
                    timeout=CONNECT_TIMEOUT_SECONDS,
                    command_timeout=COMMAND_TIMEOUT_SECONDS,
                    server_settings=SESSION,
                    init=_prove_durable,
                    connection_class=Connection,
                )
        except DatabaseRefused as refused:
            raise ConfigurationError(
                f"PostgreSQL refuses this DATABASE_URL (SQLSTATE {refused.sqlstate}):"
                " check the user, the password and the database's name"
            ) from None
        except ValueError:  # what urllib says of a port that is no number
            raise ConfigurationError(NOT_A_URL) from None
        return cls(pool)

    async def close(self) -> None:
        """Close every connection, waiting at most five seconds for statements under way."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._pool.close()
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._pool.terminate()

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        with translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                rows: list[Record] = await connection.fetch(sql, *args)
                return rows

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        with translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                row: Record | None = await connection.fetchrow(sql, *args)
                return row

    async def execute(self, sql: str, *args: object) -> str:
        with translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                status: str = await connection.execute(sql, *args)
                return status

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with translated():
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
        try:
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            try:
                yield Transaction(connection)
            except BaseException:
                with translated():
                    await transaction.rollback()
                raise
            with translated():
                await transaction.commit()
        finally:
            await self._release(connection)

    async def _release(self, connection: Any) -> None:
        # The pool resets a connection that it takes back, which fails when the server has just died.
        # It is closed then, and what was committed on it stands.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            await self._pool.release(connection)


async def _prove_durable(connection: asyncpg.Connection) -> None:
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
        raise DatabaseUnavailable("PostgreSQL is a standby here: point DATABASE_URL at the primary")
