import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from email_gateway.errors import Conflict, DatabaseRefused, NotFound
from email_gateway.store.accounts import (
    SENDING_ACCESS,
    create_api_key,
    create_tenant,
    find_account,
    find_tenant_by_name,
    get_generation,
    get_tenant,
    hash_api_key,
    list_api_keys,
    list_tenants,
    rename_tenant,
    resume_tenant,
    revoke_api_key,
    rotate_api_key,
    suspend_tenant,
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


async def test_a_revoked_and_an_expired_key_find_nobody(db: Database, tenant_id: uuid.UUID) -> None:
    ended = datetime.now(UTC) - timedelta(seconds=1)
    expired = await create_api_key(db, tenant_id, "old", actor="test", expires_at=ended)
    assert await find_account(db, hash_api_key(expired.secret)) is None
    made = await create_api_key(db, tenant_id, "shop", actor="test")
    assert await find_account(db, hash_api_key(made.secret)) is not None
    await revoke_api_key(db, tenant_id, made.key.api_key_id, actor="test")
    assert await find_account(db, hash_api_key(made.secret)) is None


async def test_a_suspended_tenants_key_says_so_until_it_is_resumed(db: Database, tenant_id: uuid.UUID) -> None:
    made = await create_api_key(db, tenant_id, "shop", actor="test")
    before = await get_generation(db)
    suspended = await suspend_tenant(db, tenant_id, actor="cli:ana", reason="ticket 7")
    assert suspended.suspended_at is not None
    assert (await suspend_tenant(db, tenant_id, actor="cli:ana")).suspended_at == suspended.suspended_at
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert account.is_suspended
    assert (await resume_tenant(db, tenant_id, actor="cli:ana")).suspended_at is None
    account = await find_account(db, hash_api_key(made.secret))
    assert account is not None
    assert not account.is_suspended
    assert await get_generation(db) == before + 3
    assert [(one.action, one.reason) for one in await list_audit(db)][-2:] == [
        ("tenant.suspended", "ticket 7"),
        ("api_key.created", None),
    ]


async def test_a_tenant_is_renamed_to_what_no_other_is_called(db: Database, tenant_id: uuid.UUID) -> None:
    await create_tenant(db, "other", actor="test")
    assert (await rename_tenant(db, tenant_id, "acme 2", actor="cli:ana")).name == "acme 2"
    assert await get_tenant(db, tenant_id) == await find_tenant_by_name(db, "acme 2")
    with pytest.raises(Conflict):
        await rename_tenant(db, tenant_id, "other", actor="cli:ana")
    assert (await get_tenant(db, tenant_id)).name == "acme 2"
    for act in (suspend_tenant, resume_tenant):
        with pytest.raises(NotFound):
            await act(db, uuid.uuid4(), actor="cli:ana")
    with pytest.raises(NotFound):
        await rename_tenant(db, uuid.uuid4(), "third", actor="cli:ana")
    with pytest.raises(NotFound):
        await get_tenant(db, uuid.uuid4())
    with pytest.raises(DatabaseRefused):
        await rename_tenant(db, tenant_id, "n" * 101, actor="cli:ana")


async def test_a_rotated_key_and_the_new_one_open_until_the_overlap_ends(db: Database, tenant_id: uuid.UUID) -> None:
    old = await create_api_key(
        db, tenant_id, "shop", actor="test", scopes=[SENDING_ACCESS], allowed_networks=[ip_network("10.0.0.0/8")],
        sender_domain="acme.example",
    )  # fmt: skip
    before = await get_generation(db)
    new = await rotate_api_key(db, tenant_id, old.key.api_key_id, actor="cli:ana", overlap=timedelta(hours=1))
    for secret in (old.secret, new.secret):
        account = await find_account(db, hash_api_key(secret))
        assert account is not None
        assert (account.scopes, account.sender_domain) == ((SENDING_ACCESS,), "acme.example")
        assert account.allowed_networks == (ip_network("10.0.0.0/8"),)
    listed = {key.api_key_id: key for key in await list_api_keys(db, tenant_id)}
    ends = listed[old.key.api_key_id].expires_at
    assert ends is not None
    assert timedelta(minutes=59) < ends - new.key.created_at <= timedelta(hours=1)
    assert listed[old.key.api_key_id].replaced_by == new.key.api_key_id
    assert (new.key.name, new.key.expires_at, new.key.replaced_by) == ("shop", None, None)
    assert await get_generation(db) == before + 1
    await db.execute("UPDATE api_key SET expires_at = now() WHERE api_key_id = $1", old.key.api_key_id)
    assert await find_account(db, hash_api_key(old.secret)) is None


async def test_a_rotation_keeps_an_earlier_end_and_gives_as_long_a_life_again(
    db: Database, tenant_id: uuid.UUID
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=2)
    old = await create_api_key(db, tenant_id, "shop", actor="test", expires_at=ends)
    await db.execute("UPDATE api_key SET created_at = expires_at - interval '90 days'")
    new = await rotate_api_key(db, tenant_id, old.key.api_key_id, actor="test")
    assert (await list_api_keys(db, tenant_id))[0].expires_at == old.key.expires_at
    assert new.key.expires_at is not None
    assert new.key.expires_at - new.key.created_at == timedelta(days=90)


async def test_only_a_living_key_that_was_not_replaced_is_rotated(db: Database, tenant_id: uuid.UUID) -> None:
    replaced = await create_api_key(db, tenant_id, "one", actor="test")
    await rotate_api_key(db, tenant_id, replaced.key.api_key_id, actor="test")
    revoked = await create_api_key(db, tenant_id, "two", actor="test")
    await revoke_api_key(db, tenant_id, revoked.key.api_key_id, actor="test")
    ended = datetime.now(UTC) - timedelta(seconds=1)
    expired = await create_api_key(db, tenant_id, "three", actor="test", expires_at=ended)
    count = len(await list_api_keys(db, tenant_id))
    for made in (replaced, revoked, expired):
        with pytest.raises(Conflict):
            await rotate_api_key(db, tenant_id, made.key.api_key_id, actor="test")
        with pytest.raises(NotFound):
            await rotate_api_key(db, uuid.uuid4(), made.key.api_key_id, actor="test")
    assert len(await list_api_keys(db, tenant_id)) == count


async def test_of_two_rotations_at_once_one_makes_a_key(db: Database, tenant_id: uuid.UUID) -> None:
    old = await create_api_key(db, tenant_id, "shop", actor="test")
    attempts = (rotate_api_key(db, tenant_id, old.key.api_key_id, actor="test") for _ in range(5))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert [isinstance(result, Conflict) for result in results].count(True) == 4
    assert len(await list_api_keys(db, tenant_id)) == 2


async def test_a_key_that_may_do_all_cannot_be_bound_to_a_domain(db: Database, tenant_id: uuid.UUID) -> None:
    with pytest.raises(DatabaseRefused):
        await create_api_key(db, tenant_id, "shop", actor="test", sender_domain="acme.example")


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
