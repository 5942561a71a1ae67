"""The pool of connections, and its transactions. Only this room imports the PostgreSQL driver."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, Self
from uuid import UUID

import asyncpg

from email_gateway.errors import GatewayError
from email_gateway.store.connecting import SESSION, Connection, Connector, MakePassword, Renew, explained
from email_gateway.store.failures import translated
from email_gateway.store.listening import listen

Record = asyncpg.Record

TENANT_ROLE = "email_gateway_tenant"
ACQUIRE_TIMEOUT_SECONDS = 2.0
CLOSE_TIMEOUT_SECONDS = 5.0


class Queries(Protocol):
    """What runs statements: the pool (each its own transaction) or an open transaction."""

    async def fetch(self, sql: str, *args: object) -> list[Record]: ...
    async def fetch_one(self, sql: str, *args: object) -> Record | None: ...
    async def execute(self, sql: str, *args: object) -> str: ...


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

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
        """Add many rows at once, by COPY."""
        with translated():
            await self._connection.copy_records_to_table(table, columns=columns, records=rows)


class Database:
    """A pool of connections, each proven durable before its first use (contract C1)."""

    def __init__(self, pool: asyncpg.Pool, connector: Connector) -> None:
        self._pool = pool
        self._connector = connector
        self._replacements: set[asyncio.Task[None]] = set()
        connector.watchers.add(self._begin_replacing)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        pool_size: int = 10,
        renew: Renew | None = None,
        make_password: MakePassword | None = None,
        session: Mapping[str, str] = SESSION,
    ) -> Self:
        """Open the pool.

        `renew` yields URLs to try when PostgreSQL refuses the credentials, now or later: it
        refreshes the secret first. The first URL that differs and works is used from then on, and
        whoever was refused gets a connection with it. One renewal runs at a time; after one that
        found nothing, 5 s pass before the next. While no URL works, DatabaseUnavailable is raised
        (without `renew`: DatabaseRefused).

        `make_password` is asked for each new connection, as RDS wants it for a login by IAM. `session` are
        the settings of each.

        Raises ConfigurationError when the server would lose what it acknowledged (fsync or
        synchronous_commit off) or when the URL is refused, DatabaseUnavailable when it is away.
        """
        connector = Connector(url, renew, make_password, session=session)
        # No floor of idle connections (min_size): the pool would open them unasked, also while the
        # credentials are refused, and each is a failed login.
        pool = await asyncpg.create_pool(
            min_size=0, max_size=pool_size, connect=lambda *_, **__: connector.open(), connection_class=Connection
        )
        database = cls(pool, connector)
        try:
            with explained():
                # Opening has timeouts of its own, longer than a request would wait.
                await database._release(await database._acquire(within=None))
        except BaseException:
            await database.close()
            raise
        return database

    async def use(self, url: str) -> None:
        """Move to another URL, once a connection has been opened with it.

        Statements and transactions under way finish where they are. Idle connections are replaced
        before this returns, the others when they are given back. The same URL again does nothing.

        Raises ConfigurationError or DatabaseUnavailable as `connect` does, and keeps the old URL.
        """
        with explained():
            await self._connector.use(url)
        if self._replacements:
            await asyncio.wait(self._replacements)

    def listen(self, *channels: str) -> AsyncGenerator[str | None, None]:
        """Listen on a connection of its own until the generator is closed, which closes the connection.

        Yields None after every (re)connect, since something may have been missed, and the name of
        a channel for what was notified there; several waiting notifications of one channel may come
        as one. Never raises for a database that is away. Close it (`aclosing`) before the database.
        """
        return listen(self._connector, channels)

    async def close(self) -> None:
        """Close every connection, waiting at most five seconds for statements under way."""
        self._connector.close()
        for replacement in self._replacements:
            replacement.cancel()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._pool.close()
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._pool.terminate()

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        connection = await self._acquire()
        try:
            with translated():
                rows: list[Record] = await connection.fetch(sql, *args)
                return rows
        finally:
            await self._release(connection)

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        connection = await self._acquire()
        try:
            with translated():
                row: Record | None = await connection.fetchrow(sql, *args)
                return row
        finally:
            await self._release(connection)

    async def execute(self, sql: str, *args: object) -> str:
        connection = await self._acquire()
        try:
            with translated():
                status: str = await connection.execute(sql, *args)
                return status
        finally:
            await self._release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        connection = await self._acquire()
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

    def as_tenant(self, tenant_id: UUID) -> "TenantDatabase":
        """Return this pool as a tenant may use it."""
        return TenantDatabase(self._pool, self._connector, tenant_id)

    async def _acquire(self, within: float | None = ACQUIRE_TIMEOUT_SECONDS) -> Any:
        # `within` seconds do not bound a renewal of the credentials, which holds no place in the pool.
        return await self._connector.renewing(lambda: self._take(within))

    async def _take(self, within: float | None) -> Any:
        with translated():
            return await self._pool.acquire(timeout=within)

    async def _release(self, connection: Any) -> None:
        # The pool resets a connection that it takes back, which fails when the server has just died.
        # It is closed then, and what was committed on it stands.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            await self._pool.release(connection)

    def _begin_replacing(self) -> None:
        replacement = asyncio.create_task(self._replace_connections(), name="database-connections")
        self._replacements.add(replacement)
        replacement.add_done_callback(self._replacements.discard)

    async def _replace_connections(self) -> None:
        """Expire every connection, and replace those that are idle.

        The pool replaces an expired connection when it hands it out or takes it back. The last one
        given back is the first handed out, so without this the deepest would stay for minutes.
        """
        await self._pool.expire_connections()
        taken: list[Any] = []
        try:
            for _ in range(self._pool.get_idle_size()):
                taken.append(await self._take(ACQUIRE_TIMEOUT_SECONDS))  # noqa: PERF401  (released also when one fails)
        except GatewayError:
            return  # whoever needs a connection next replaces one
        finally:
            for connection in taken:
                await self._release(connection)


class TenantDatabase(Database):
    """The same pool, for one tenant: whatever is asked runs as the tenant role, under row-level security.

    A statement that forgets its `tenant_id =` still finds nothing of another tenant, and what the migrations
    do not grant to that role raises DatabaseRefused. Several statements are cheaper in one transaction: alone
    each takes three round trips more.
    """

    def __init__(self, pool: asyncpg.Pool, connector: Connector, tenant_id: UUID) -> None:
        # Neither watched nor closed: that is the whole's, and there may be one of these for each tenant.
        self._pool = pool
        self._connector = connector
        # A UUID needs no quoting, and so both are one round trip.
        self._enter = f"SET LOCAL ROLE {TENANT_ROLE}; SET LOCAL email_gateway.tenant_id = '{tenant_id}'"

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        async with self.transaction() as transaction:
            return await transaction.fetch(sql, *args)

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        async with self.transaction() as transaction:
            return await transaction.fetch_one(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        async with self.transaction() as transaction:
            return await transaction.execute(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            await transaction.execute(self._enter)
            yield transaction
