"""Tenants and their API keys. A key's secret is shown once; its SHA-256 is all that is kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID, uuid4

from email_gateway.errors import Conflict, NotFound
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.key_text import make_key_text
from email_gateway.store.queries import load

SQL = load("accounts")

FULL_ACCESS = "full_access"
SENDING_ACCESS = "sending_access"
TOUCH_INTERVAL = timedelta(minutes=1)

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of this gateway: what every row belongs to."""

    tenant_id: UUID
    name: str
    created_at: datetime
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret; `prefix` is the part of it that may be shown."""

    tenant_id: UUID
    api_key_id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the one copy of its secret."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a valid key speaks for, and what it may do."""

    tenant_id: UUID
    api_key_id: UUID
    scopes: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    is_touch_due: bool

    @property
    def has_full_access(self) -> bool:
        return FULL_ACCESS in self.scopes


def hash_api_key(secret: str) -> bytes:
    """Hash a key as it is stored; 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


async def create_tenant(db: Database, name: str, *, actor: str) -> Tenant:
    """Make a tenant; raises Conflict when the name is taken."""
    async with db.transaction() as transaction:
        row = await transaction.fetch_one(SQL.add_tenant, uuid4(), name)
        if row is None:
            raise Conflict("a tenant of this name exists")
        await add_audit(transaction, actor=actor, action="tenant.created", tenant_id=row["tenant_id"])
        return Tenant(*row)


async def find_tenant_by_name(db: Queries, name: str) -> Tenant | None:
    """Return the tenant that operators call by this name."""
    row = await db.fetch_one(SQL.find_tenant_by_name, name)
    return Tenant(*row) if row else None


async def list_tenants(db: Queries) -> list[Tenant]:
    """Return every tenant, oldest first."""
    return [Tenant(*row) for row in await db.fetch(SQL.list_tenants)]


async def create_api_key(
    db: Database,
    tenant_id: UUID,
    name: str,
    *,
    actor: str,
    scopes: Sequence[str] = (FULL_ACCESS,),
    allowed_networks: Sequence[Network] = (),
    expires_at: datetime | None = None,
) -> NewApiKey:
    """Make a key; its secret exists only in the returned value.

    Raises NotFound when there is no such tenant.
    """
    text = make_key_text()
    key_id = uuid4()
    async with db.transaction() as transaction:
        row = await transaction.fetch_one(
            SQL.add_api_key,
            tenant_id,
            key_id,
            name,
            text.prefix,
            hash_api_key(text.secret),
            list(scopes),
            list(allowed_networks),
            expires_at,
        )
        if row is None:
            raise NotFound("no such tenant")
        await add_audit(transaction, actor=actor, action="api_key.created", tenant_id=tenant_id, subject=str(key_id))
    return NewApiKey(_api_key(row), text.secret)


async def list_api_keys(db: Queries, tenant_id: UUID) -> list[ApiKey]:
    """Return a tenant's keys, revoked ones included, oldest first."""
    return [_api_key(row) for row in await db.fetch(SQL.list_api_keys, tenant_id)]


async def revoke_api_key(db: Database, tenant_id: UUID, api_key_id: UUID, *, actor: str) -> None:
    """End a key for good, on every process within seconds; raises NotFound for another tenant's."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.revoke_api_key, tenant_id, api_key_id) is None:
            raise NotFound("no such API key")
        await transaction.execute(SQL.bump_generation)
        await add_audit(
            transaction, actor=actor, action="api_key.revoked", tenant_id=tenant_id, subject=str(api_key_id)
        )


async def find_account(db: Queries, key_hash: bytes) -> Account | None:
    """Return whom this key speaks for; None when it is unknown, revoked, expired or suspended."""
    row = await db.fetch_one(SQL.find_api_key, key_hash, TOUCH_INTERVAL)
    if row is None:
        return None
    tenant_id, api_key_id, scopes, networks, is_touch_due = row
    return Account(tenant_id, api_key_id, tuple(scopes), tuple(networks), is_touch_due)


async def touch_api_key(db: Queries, tenant_id: UUID, api_key_id: UUID) -> None:
    """Note that a key was used, at most once a minute whoever else notes it."""
    await db.execute(SQL.touch_api_key, tenant_id, api_key_id, TOUCH_INTERVAL)


async def get_generation(db: Queries) -> int:
    """Return the number that grows whenever a cached key may have changed."""
    row = await db.fetch_one(SQL.get_generation)
    return int(row["value"]) if row else 0


def _api_key(row: Record) -> ApiKey:
    tenant_id, api_key_id, name, prefix, scopes, networks, *moments = row
    return ApiKey(tenant_id, api_key_id, name, prefix, tuple(scopes), tuple(networks), *moments)
