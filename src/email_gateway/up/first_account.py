"""What the database must hold before the first mail: the schema, a tenant, its API key, a login link."""

from dataclasses import dataclass, field, replace

from email_gateway.store.accounts import create_api_key, create_tenant, find_account, find_tenant_by_name, hash_api_key
from email_gateway.store.database import Database
from email_gateway.store.migrations import migrate
from email_gateway.store.sessions import make_login_link
from email_gateway.up.home import Credentials

FIRST_TENANT = "default"
ACTOR = "up"


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """The database as each logs in to it: the migrations as its owner, every process as the service."""

    migrations: str = field(repr=False)
    processes: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The credentials, now with an API key that works, and a one-time login token if one was asked for."""

    credentials: Credentials
    is_new_api_key: bool
    login_token: str | None = field(repr=False)


async def prepare(urls: DatabaseUrls, credentials: Credentials, operator: str | None) -> Prepared:
    """Migrate the database and make sure that the credentials' API key works there.

    A key that is gone, or was made in another database, is replaced by a new one of the tenant `default`.
    """
    await migrate(urls.migrations)
    db = await Database.connect(urls.processes, pool_size=1)
    try:
        known = credentials.api_key and await find_account(db, hash_api_key(credentials.api_key))
        if not known:
            credentials = replace(credentials, api_key=await _make_api_key(db))
        token = await make_login_link(db, operator) if operator else None
        return Prepared(credentials, not known, token)
    finally:
        await db.close()


async def _make_api_key(db: Database) -> str:
    tenant = await find_tenant_by_name(db, FIRST_TENANT) or await create_tenant(db, FIRST_TENANT, actor=ACTOR)
    return (await create_api_key(db, tenant.tenant_id, "first key", actor=ACTOR)).secret
