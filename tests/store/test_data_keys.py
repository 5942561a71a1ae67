"""Data keys coming into use and going out of it: never two that are active, never three for the index."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import DatabaseRefused
from email_gateway.store.data_keys import (
    destroy_index_key,
    list_changed_keys,
    list_index_keys,
    list_index_rotations,
    list_keys_in_use,
    list_old_field_keys,
    switch_index_key,
)
from email_gateway.store.database import Database
from email_gateway.store.keys import StoredKey, add_key

pytestmark = pytest.mark.anyio

FIELD, INDEX = 1, 2
OLD, NEW, THIRD = (bytes((number,)) * 16 for number in (3, 1, 2))


async def add(db: Database, tenant_id: UUID, key_id: bytes, purpose: int, state: str = "active") -> None:
    await add_key(db, StoredKey(key_id, tenant_id, purpose, state, None), {})


async def test_an_index_key_comes_in_takes_over_and_goes(db: Database, tenant_id: UUID) -> None:
    await add(db, tenant_id, OLD, INDEX)
    assert await list_index_rotations(db) == []
    await add(db, tenant_id, NEW, INDEX, "incoming")
    assert [(key.tenant, key.key_id, key.state) for key in await list_index_rotations(db)] == [
        ("acme", OLD, "active"),
        ("acme", NEW, "incoming"),
    ]
    assert not await destroy_index_key(db, tenant_id, NEW), "only one on its way out can go"
    async with db.transaction() as transaction:
        await switch_index_key(transaction, tenant_id)
    assert [(key.key_id, key.state) for key in await list_keys_in_use(db, tenant_id, [])] == [
        (NEW, "active"),
        (OLD, "decrypt_only"),
    ]
    assert await destroy_index_key(db, tenant_id, OLD)
    assert [key.key_id for key in await list_keys_in_use(db, tenant_id, [])] == [NEW]
    assert {key.key_id: key.state for key in await list_index_keys(db, tenant_id)} == {
        OLD: "destroyed",
        NEW: "active",
    }


@pytest.mark.parametrize("state", ["incoming", "decrypt_only"])
async def test_a_third_index_key_is_refused(db: Database, tenant_id: UUID, state: str) -> None:
    await add(db, tenant_id, OLD, INDEX)
    await add(db, tenant_id, NEW, INDEX, "incoming")
    with pytest.raises(DatabaseRefused):
        await add(db, tenant_id, THIRD, INDEX, state)


async def test_a_field_key_is_never_incoming(db: Database, tenant_id: UUID) -> None:
    with pytest.raises(DatabaseRefused):
        await add(db, tenant_id, NEW, FIELD, "incoming")


async def test_only_tenants_whose_keys_are_others_than_those_held_are_read(db: Database, tenant_id: UUID) -> None:
    await add(db, tenant_id, OLD, FIELD)
    await add(db, tenant_id, NEW, INDEX)
    assert await list_changed_keys(db, {tenant_id: OLD + NEW}, []) == {}
    assert await list_changed_keys(db, {uuid4(): OLD + NEW}, []) == {}
    changed = await list_changed_keys(db, {tenant_id: OLD + THIRD}, [])
    assert [key.key_id for key in changed[tenant_id]] == [OLD, NEW]


async def test_old_field_keys_are_those_of_this_age(db: Database, tenant_id: UUID) -> None:
    await add(db, tenant_id, OLD, FIELD)
    assert await list_old_field_keys(db, timedelta(days=1), 10) == []
    await db.execute("UPDATE crypto_key SET created_at = now() - interval '1 day'")
    assert await list_old_field_keys(db, timedelta(days=1), 10) == [tenant_id]
