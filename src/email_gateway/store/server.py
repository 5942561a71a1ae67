"""The server behind a URL as an operator sees it: version, rights of our login, room, and what stands in between."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from email_gateway.store.connecting import MakePassword, close_connection, open_connection
from email_gateway.store.database import Queries
from email_gateway.store.failures import translated
from email_gateway.store.queries import load

SQL = load("server")


@dataclass(frozen=True, slots=True)
class Server:
    """What one look found; sizes in bytes.

    `connection_limit` leaves out what is kept for superusers; `login_limit` is None where the login
    has none of its own. `is_pooled`: something answers for PostgreSQL, `shares_backends` when it
    gives one backend to several sessions, as PgBouncer does in transaction mode. `closed` are the
    tables that the login may not read.
    """

    version_number: int
    version: str
    full_page_writes: str
    has_synchronous_standby: bool
    connection_limit: int
    connections: int
    database_size: int
    is_encrypted: bool
    is_superuser: bool
    login_limit: int | None
    is_owner: bool
    acts_for_tenants: bool
    closed: Sequence[str]
    is_pooled: bool
    shares_backends: bool


async def look_at_server(url: str, make_password: MakePassword | None = None) -> Server:
    """Look once, changing nothing. Raises as `connecting.open_connection`: a server that may lose mail is refused."""
    connection = await open_connection(url, make_password)
    try:
        with translated():
            row = await connection.fetchrow(SQL.look)
            rights = await connection.fetchrow(SQL.look_at_rights)
        assert row is not None
        assert rights is not None
        seen = dict(row)
        backend = seen.pop("backend_pid")
        # Whoever stands in between tells a process id of its own at the start.
        is_pooled = connection.get_server_pid() != backend
        shares = is_pooled and await _answers(url, make_password, backend)
        return Server(**seen, **dict(rights), is_pooled=is_pooled, shares_backends=shares)
    finally:
        await close_connection(connection)


async def get_time(db: Queries) -> datetime:
    """Return the moment by the database's clock, which every process shares."""
    row = await db.fetch_one(SQL.get_time)
    assert row is not None  # a clock always answers
    moment: datetime = row["now"]
    return moment


async def _answers(url: str, make_password: MakePassword | None, backend: int) -> bool:
    """Tell whether another session is answered by this backend, which belongs to one that is open."""
    other = await open_connection(url, make_password)
    try:
        with translated():
            return bool(await other.fetchval(SQL.get_backend_pid) == backend)
    finally:
        await close_connection(other)
