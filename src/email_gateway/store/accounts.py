"""Tenants and their API keys. A key's secret is shown once; its SHA-256 is all that is kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID, uuid4

from email_gateway.errors import Conflict, DatabaseRefused, NotFound
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.key_text import make_key_text
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("accounts")

FULL_ACCESS = "full_access"
SENDING_ACCESS = "sending_access"
TOUCH_INTERVAL = timedelta(minutes=1)
# How long a key that is replaced still opens, where nobody says otherwise, and at most.
OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=30)
ENDS_SOON = timedelta(days=14)
MOST_ENDING = 10
NAME_IS_TAKEN = "tenant_name_unique"

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
    """An API key without its secret; `prefix` is the part of it that may be shown.

    `sender_domain` is the one domain it may send from, None for any. `replaced_by` is the key that was
    made in its place; it ends at `expires_at` then.
    """

    tenant_id: UUID
    api_key_id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    sender_domain: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: UUID | None


@dataclass(frozen=True, slots=True)
class EndingKey:
    """A key that ends by itself soon, by the names that operators use."""

    tenant: str
    prefix: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the one copy of its secret."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a valid key speaks for, and what it may do; nothing while its tenant is suspended."""

    tenant_id: UUID
    api_key_id: UUID
    scopes: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    sender_domain: str | None
    expires_at: datetime | None
    is_suspended: bool
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


async def get_tenant(db: Queries, tenant_id: UUID) -> Tenant:
    """Return a tenant; raises NotFound."""
    return _tenant(await db.fetch_one(SQL.find_tenant, tenant_id))


async def rename_tenant(db: Database, tenant_id: UUID, name: str, *, actor: str) -> Tenant:
    """Give a tenant another name; raises NotFound, and Conflict when another tenant has it."""
    try:
        async with db.transaction() as transaction:
            tenant = _tenant(await transaction.fetch_one(SQL.rename_tenant, tenant_id, name))
            await add_audit(transaction, actor=actor, action="tenant.renamed", tenant_id=tenant_id)
            return tenant
    except DatabaseRefused as refused:
        if refused.constraint != NAME_IS_TAKEN:
            raise
        raise Conflict("a tenant of this name exists") from None


async def suspend_tenant(db: Database, tenant_id: UUID, *, actor: str, reason: str | None = None) -> Tenant:
    """Have no key of a tenant open anything, on every process within seconds; what was accepted is still delivered.

    Raises NotFound.
    """
    return await _turn(db, SQL.suspend_tenant, tenant_id, actor, "tenant.suspended", reason)


async def resume_tenant(db: Database, tenant_id: UUID, *, actor: str, reason: str | None = None) -> Tenant:
    """Let a tenant's keys open again; raises NotFound."""
    return await _turn(db, SQL.resume_tenant, tenant_id, actor, "tenant.resumed", reason)


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
    sender_domain: str | None = None,
) -> NewApiKey:
    """Make a key; its secret exists only in the returned value.

    Only a key for sending can be bound to a `sender_domain`. Raises NotFound when there is no such tenant.
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
            sender_domain,
        )
        if row is None:
            raise NotFound("no such tenant")
        await add_audit(transaction, actor=actor, action="api_key.created", tenant_id=tenant_id, subject=str(key_id))
    return NewApiKey(_api_key(row), text.secret)


async def list_api_keys(db: Queries, tenant_id: UUID) -> list[ApiKey]:
    """Return a tenant's keys, revoked ones included, oldest first."""
    return [_api_key(row) for row in await db.fetch(SQL.list_api_keys, tenant_id)]


async def list_live_api_keys(db: Queries, tenant_id: UUID, page: Page) -> tuple[list[ApiKey], bool]:
    """Return a page of the keys that nobody revoked, newest first, and whether there are more."""
    sql = SQL.list_live_api_keys_after if page.before is None else SQL.list_live_api_keys_before
    cursor = page.after if page.before is None else page.before
    rows, has_more = page.cut(await db.fetch(sql, tenant_id, cursor, page.limit + 1))
    return [_api_key(row) for row in rows], has_more


async def rename_api_key(db: Database, tenant_id: UUID, api_key_id: UUID, name: str, *, actor: str) -> None:
    """Give a key another name; raises NotFound for one that was revoked, or is another tenant's."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.rename_api_key, tenant_id, api_key_id, name) is None:
            raise NotFound("no such API key")
        await add_audit(
            transaction, actor=actor, action="api_key.renamed", tenant_id=tenant_id, subject=str(api_key_id)
        )


async def rotate_api_key(
    db: Database, tenant_id: UUID, api_key_id: UUID, *, actor: str, overlap: timedelta = OVERLAP
) -> NewApiKey:
    """Make a key that may do what this one may, which ends after `overlap`; both open until then.

    A key that was made to end gets as long a life again. Raises NotFound, and Conflict for a key that
    has ended or was replaced before.
    """
    text, new_id = make_key_text(), uuid4()
    async with db.transaction() as transaction:
        row = await transaction.fetch_one(
            SQL.replace_api_key, tenant_id, api_key_id, new_id, text.prefix, hash_api_key(text.secret), overlap
        )
        if row is None:
            if await transaction.fetch_one(SQL.find_api_key, tenant_id, api_key_id) is None:
                raise NotFound("no such API key")
            raise Conflict("this key has ended, or another was made in its place: make a new key instead")
        await transaction.execute(SQL.bump_generation)
        await add_audit(
            transaction, actor=actor, action="api_key.rotated", tenant_id=tenant_id, subject=str(api_key_id)
        )
    return NewApiKey(_api_key(row), text.secret)


async def revoke_api_key(db: Database, tenant_id: UUID, api_key_id: UUID, *, actor: str) -> ApiKey:
    """End a key for good, on every process within seconds; raises NotFound for another tenant's."""
    async with db.transaction() as transaction:
        row = await transaction.fetch_one(SQL.revoke_api_key, tenant_id, api_key_id)
        if row is None:
            raise NotFound("no such API key")
        await transaction.execute(SQL.bump_generation)
        await add_audit(
            transaction, actor=actor, action="api_key.revoked", tenant_id=tenant_id, subject=str(api_key_id)
        )
        return _api_key(row)


async def list_ending_api_keys(db: Queries) -> list[EndingKey]:
    """Return the keys that end within two weeks and have none in their place, those first that end first; ten at most."""
    return [EndingKey(*row) for row in await db.fetch(SQL.list_ending_api_keys, ENDS_SOON, MOST_ENDING)]


async def find_account(db: Queries, key_hash: bytes) -> Account | None:
    """Return whom this key speaks for; None when it is unknown, revoked or expired."""
    row = await db.fetch_one(SQL.find_account, key_hash, TOUCH_INTERVAL)
    if row is None:
        return None
    tenant_id, api_key_id, scopes, networks, *rest = row
    return Account(tenant_id, api_key_id, tuple(scopes), tuple(networks), *rest)


async def touch_api_key(db: Queries, tenant_id: UUID, api_key_id: UUID) -> None:
    """Note that a key was used, at most once a minute whoever else notes it."""
    await db.execute(SQL.touch_api_key, tenant_id, api_key_id, TOUCH_INTERVAL)


async def get_generation(db: Queries) -> int:
    """Return the number that grows whenever a cached key may have changed."""
    row = await db.fetch_one(SQL.get_generation)
    return int(row["value"]) if row else 0


async def _turn(db: Database, sql: str, tenant_id: UUID, actor: str, action: str, reason: str | None) -> Tenant:
    async with db.transaction() as transaction:
        tenant = _tenant(await transaction.fetch_one(sql, tenant_id))
        await transaction.execute(SQL.bump_generation)
        await add_audit(transaction, actor=actor, action=action, tenant_id=tenant_id, reason=reason)
        return tenant


def _tenant(row: Record | None) -> Tenant:
    if row is None:
        raise NotFound("no such tenant")
    return Tenant(*row)


def _api_key(row: Record) -> ApiKey:
    tenant_id, api_key_id, name, prefix, scopes, networks, *rest = row
    return ApiKey(tenant_id, api_key_id, name, prefix, tuple(scopes), tuple(networks), *rest)
