"""Who logs in: the migrations as the owner, every process as the service and for tenants; neither a superuser."""

from collections.abc import Mapping
from uuid import UUID

from email_gateway.errors import ConfigurationError, DatabaseRefused
from email_gateway.store.database import TENANT_ROLE, Database
from email_gateway.store.queries import load

SQL = load("logins")

MIGRATOR = "email_gateway_migrator"
PROCESS = "email_gateway_process"
LOGINS = (MIGRATOR, PROCESS)
INSUFFICIENT_PRIVILEGE = "42501"
NOBODY = UUID(int=0)


async def prepare_logins(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Let the two logins of a server of our own in with these passwords, and give the owner role what the superuser owns.

    All or nothing, and the same again changes nothing. It needs a superuser, once at each start of
    `up`, so that a home whose schema was made by one is carried over.
    """
    db = await Database.connect(superuser_url, pool_size=1)
    try:
        async with db.transaction() as transaction:
            await transaction.execute(SQL.create_logins)
            for name in LOGINS:
                row = await transaction.fetch_one(SQL.phrase_password, name, passwords[name])
                assert row is not None  # a SELECT without FROM returns one row
                await transaction.execute(row["statement"])
            for row in await transaction.fetch(SQL.phrase_ownership):
                await transaction.execute(row["statement"])
    finally:
        await db.close()


async def require_tenant_role(db: Database) -> None:
    """Raise ConfigurationError unless this login may act for tenants, as every request of theirs does."""
    try:
        await db.as_tenant(NOBODY).execute("SELECT")
    except DatabaseRefused as refused:
        if refused.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        raise ConfigurationError(
            f"this login may not act for tenants: GRANT {TENANT_ROLE} to it (docs/settings.md, under PostgreSQL)"
        ) from None
