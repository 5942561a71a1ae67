import re
import uuid
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from email_gateway.errors import Conflict, NotFound
from email_gateway.store.accounts import (
    create_api_key,
    create_tenant,
    find_account,
    find_tenant_by_name,
    get_generation,
    hash_api_key,
    list_api_keys,
    list_tenants,
    revoke_api_key,
    touch_api_key,
)
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.key_text import PATTERN

pytestmark = pytest.mark.anyio


async def test_a_tenant_is_made_once_under_its_name(db: Database) -> None:
    tenant = await create_tenant(db, "acme", actor="cli:ana")
    assert await find_tenant_by_name(db, "acme") == tenant
    assert await find_tenant_by_name(db, "other") is None
    assert await list_tenants(db) == [tenant]
    with pytest.raises(Conflict):
        await create_tenant(db, "acme", actor="cli:ana")
    assert [(entry.actor, entry.action) for entry in await list_audit(db)] == [("cli:ana", "tenant.created")]


async def test_a_key_is_made_of_random_bits_and_only_its_hash_is_kept(db: Database, tenant_id: uuid.UUID) -> None:
    made = await create_api_key(db, tenant_id, "shop", actor="test", allowed_networks=[ip_network("10.0.0.0/8")])
    assert re.fullmatch(PATTERN, made.secret)
    assert made.secret.startswith(made.key.prefix)
    assert made.secret not in repr(made)
    row = await db.fetch_one("SELECT * FROM api_key")
    assert row is not None
    secret = made.secret.removeprefix(f"{made.key.prefix}_")
    assert all(secret not in str(value) and secret.encode() not in str(value).encode() for value in row.values())
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert (account.tenant_id, account.api_key_id) == (tenant_id, made.key.api_key_id)
    assert account.allowed_networks == (ip_network("10.0.0.0/8"),)
    assert account.has_full_access
    assert await find_account(db, hash_api_key(made.secret + "x")) is None


async def test_a_key_of_no_tenant_is_not_made(db: Database) -> None:
    with pytest.raises(NotFound):
        await create_api_key(db, uuid.uuid4(), "shop", actor="test")
    assert await list_audit(db) == []


async def test_a_revoked_an_expired_and_a_suspended_key_find_nobody(db: Database, tenant_id: uuid.UUID) -> None:
    ended = datetime.now(UTC) - timedelta(seconds=1)
    expired = await create_api_key(db, tenant_id, "old", actor="test", expires_at=ended)
    assert await find_account(db, hash_api_key(expired.secret)) is None
    made = await create_api_key(db, tenant_id, "shop", actor="test")
    await db.execute("UPDATE tenant SET suspended_at = now()")
    assert await find_account(db, hash_api_key(made.secret)) is None
    await db.execute("UPDATE tenant SET suspended_at = NULL")
    assert await find_account(db, hash_api_key(made.secret)) is not None
    await revoke_api_key(db, tenant_id, made.key.api_key_id, actor="test")
    assert await find_account(db, hash_api_key(made.secret)) is None


async def test_revoking_bumps_the_generation_and_another_tenants_key_is_not_found(
    db: Database, tenant_id: uuid.UUID
) -> None:
    made = await create_api_key(db, tenant_id, "shop", actor="test")
    before = await get_generation(db)
    with pytest.raises(NotFound):
        await revoke_api_key(db, uuid.uuid4(), made.key.api_key_id, actor="test")
    assert await get_generation(db) == before
    await revoke_api_key(db, tenant_id, made.key.api_key_id, actor="cli:ana")
    assert await get_generation(db) == before + 1
    assert (await list_audit(db))[0].subject == str(made.key.api_key_id)
    first = (await list_api_keys(db, tenant_id))[0].revoked_at
    await revoke_api_key(db, tenant_id, made.key.api_key_id, actor="cli:ana")
    assert (await list_api_keys(db, tenant_id))[0].revoked_at == first


async def test_a_use_is_written_once_a_minute(db: Database, tenant_id: uuid.UUID) -> None:
    made = await create_api_key(db, tenant_id, "shop", actor="test")
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert account.is_touch_due
    await touch_api_key(db, tenant_id, made.key.api_key_id)
    first = (await list_api_keys(db, tenant_id))[0].last_used_at
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert not account.is_touch_due
    await touch_api_key(db, tenant_id, made.key.api_key_id)
    assert (await list_api_keys(db, tenant_id))[0].last_used_at == first
    await db.execute("UPDATE api_key SET last_used_at = now() - interval '61 seconds'")
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert account.is_touch_due
