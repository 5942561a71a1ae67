"""Field keys renewed while several processes hold the old ones: each follows, and every old value opens."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import KeysNotFollowed, KeyUnavailable
from email_gateway.store import data_keys
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, list_generations
from email_gateway.vault import keyring as module
from email_gateway.vault.key_making import add_incoming_index_key, lock_roots
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from email_gateway.vault.wraps import Purpose
from tests.conftest import KEY, SALT
from tests.given_roots import only
from tests.vault.keys import add_tenants

pytestmark = pytest.mark.anyio

ROOT = derive_root(KEY, SALT)
FIELD = "message.content"


@pytest.fixture
async def other(db: Database, keyring: Keyring) -> Keyring:
    """Another process with the same secrets."""
    return await Keyring.start(db, only(ROOT))


async def generation(db: Database) -> int:
    return (await list_generations(db))[Subject.KEYS].value


async def hide_wraps(db: Database) -> "list[tuple[bytes, bytes, bytes]]":
    """Take the wraps of the newest key away, as if it were under a root out of reach."""
    return [
        (row["key_id"], row["parent_id"], row["blob"])
        for row in await db.fetch(
            "DELETE FROM crypto_key_wrap WHERE key_id = (SELECT key_id FROM crypto_key ORDER BY created_at DESC LIMIT 1)"
            " RETURNING key_id, parent_id, blob"
        )
    ]


async def show_wraps(db: Database, wraps: "list[tuple[bytes, bytes, bytes]]") -> None:
    for wrapped in wraps:
        await db.execute("INSERT INTO crypto_key_wrap (key_id, parent_id, blob) VALUES ($1, $2, $3)", *wrapped)


async def add_index_key(db: Database, keyring: Keyring, tenant_id: UUID) -> bytes:
    async with db.transaction() as transaction:
        roots = await lock_roots(transaction, keyring.roots)
        return await add_incoming_index_key(transaction, keyring.roots, roots, tenant_id)


async def test_old_values_open_after_any_number_of_renewals(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID
) -> None:
    row, sealed = uuid4(), []
    for _ in range(4):
        sealed.append((await keyring.tenant(tenant_id)).seal(FIELD, row, b"a text"))
        key_id = await keyring.renew_field_key(tenant_id)
        assert (await keyring.tenant(tenant_id)).field_key.key_id == key_id
    assert len({value[2:18] for value in sealed}) == 4
    for process in (keyring, other, await Keyring.start(db, only(ROOT))):
        assert [await process.open(tenant_id, FIELD, row, value) for value in sealed] == [b"a text"] * 4
    assert await store.count_keys(db) == {(1, "active"): 1, (1, "decrypt_only"): 4, (2, "active"): 1}


async def test_another_process_follows_when_it_reloads(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID
) -> None:
    row, before = uuid4(), await other.tenant(tenant_id)
    told = await generation(db)
    newest = await keyring.renew_field_key(tenant_id)
    assert await generation(db) > told
    assert (await other.tenant(tenant_id)).field_key is before.field_key
    await other.reload()
    after = await other.tenant(tenant_id)
    assert after.field_key.key_id == newest
    assert after.index_key is before.index_key
    sealed = before.seal(FIELD, row, b"a text")
    assert await other.open(tenant_id, FIELD, row, sealed) == b"a text", "the old key still opens"


async def test_a_reload_reads_only_what_changed(keyring: Keyring, other: Keyring, db: Database) -> None:
    tenants = await add_tenants(db, 3)
    before = {tenant_id: await other.tenant(tenant_id) for tenant_id in tenants}
    await keyring.renew_field_key(tenants[1])
    await other.reload()
    changed = [tenant_id for tenant_id in tenants if await other.tenant(tenant_id) is not before[tenant_id]]
    assert changed == [tenants[1]]


async def test_a_new_key_that_cannot_be_opened_leaves_the_old_one_in_use_and_is_tried_again(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID
) -> None:
    (second,) = await add_tenants(db, 1)
    before, row = await other.tenant(tenant_id), uuid4()
    await other.tenant(second)
    newest = await keyring.renew_field_key(tenant_id)
    wraps = await hide_wraps(db)
    seconds = await keyring.renew_field_key(second)
    for _ in range(2):
        with pytest.raises(KeysNotFollowed):
            await other.reload()
        assert await other.tenant(tenant_id) is before
        assert (await other.tenant(second)).field_key.key_id == seconds, "one tenant's trouble is not another's"
    assert await keyring.open(tenant_id, FIELD, row, before.seal(FIELD, row, b"a text")) == b"a text"
    await show_wraps(db, wraps)
    await other.reload()
    assert (await other.tenant(tenant_id)).field_key.key_id == newest


async def test_processes_that_renew_at_once_agree_on_one_key(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID
) -> None:
    await keyring.tenant(tenant_id)
    await other.tenant(tenant_id)
    await asyncio.gather(*(each.renew_field_key(tenant_id) for each in (keyring, other) for _ in range(4)))
    for each in (keyring, other):
        await each.reload()
    assert (await keyring.tenant(tenant_id)).field_key.key_id == (await other.tenant(tenant_id)).field_key.key_id
    assert (await store.count_keys(db))[Purpose.FIELD, "active"] == 1


async def test_a_tenant_without_a_key_gets_its_first(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    newest = await keyring.renew_field_key(tenant_id)
    assert (await keyring.tenant(tenant_id)).field_key.key_id == newest
    assert await store.count_keys(db) == {(1, "active"): 1, (2, "active"): 1}


async def test_a_new_key_is_wrapped_under_every_root_in_force(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    newest = await keyring.renew_field_key(tenant_id)
    rows = await db.fetch("SELECT parent_id FROM crypto_key_wrap WHERE key_id = $1", newest)
    assert [row["parent_id"] for row in rows] == [ROOT.root_id]


async def test_a_renewal_that_fails_changes_nothing(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    before, told = await keyring.tenant(tenant_id), await generation(db)
    await db.execute("UPDATE crypto_root SET state = 'retiring'")
    with pytest.raises(KeyUnavailable, match="no active root"):
        await keyring.renew_field_key(tenant_id)
    assert await keyring.tenant(tenant_id) is before
    assert await generation(db) == told
    assert (await store.count_keys(db))[Purpose.FIELD, "active"] == 1


async def test_only_old_keys_are_renewed_and_each_once(db: Database, keyring: Keyring, other: Keyring) -> None:
    old, young = await add_tenants(db, 2)
    for tenant_id in (old, young):
        await keyring.tenant(tenant_id)
    await db.execute("UPDATE crypto_key SET created_at = now() - interval '366 days' WHERE tenant_id = $1", old)
    before = (await keyring.tenant(young)).field_key.key_id
    renewed = await asyncio.gather(*(each.renew_old_field_keys(timedelta(days=365)) for each in (keyring, other)))
    assert sum(renewed) >= 1
    assert (await keyring.tenant(young)).field_key.key_id == before
    rows = await db.fetch("SELECT state FROM crypto_key WHERE tenant_id = $1 AND purpose = 1", old)
    assert sorted(row["state"] for row in rows) == ["active", "decrypt_only"]
    told = await generation(db)
    assert await keyring.renew_old_field_keys(timedelta(days=365)) == 0
    assert await generation(db) == told, "nobody is woken for nothing"


async def test_the_oldest_keys_go_first_and_not_all_at_once(db: Database, keyring: Keyring) -> None:
    tenants = await add_tenants(db, 3)
    for age, tenant_id in enumerate(tenants, start=400):
        await keyring.tenant(tenant_id)
        await db.execute(
            "UPDATE crypto_key SET created_at = now() - $2::interval WHERE tenant_id = $1", tenant_id, timedelta(age)
        )
    before = [(await keyring.tenant(tenant_id)).field_key.key_id for tenant_id in tenants]
    assert await keyring.renew_old_field_keys(timedelta(days=365), limit=2) == 2
    after = [(await keyring.tenant(tenant_id)).field_key.key_id for tenant_id in tenants]
    assert [one != two for one, two in zip(before, after, strict=True)] == [False, True, True]


async def test_an_incoming_index_key_is_written_and_not_read(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID
) -> None:
    before = await other.tenant(tenant_id)
    incoming = await add_index_key(db, keyring, tenant_id)
    await other.reload()
    keys = await other.tenant(tenant_id)
    assert keys.index_key is before.index_key
    assert [key.key_id for key in keys.index_keys] == [before.index_key_id, incoming]
    blind = keys.blind_each([("address", 0, b"a@b.example"), ("tax_id", 1, b"52998224725")])
    assert {(key_id, field) for key_id, field, _ in blind} == {
        (key_id, field) for key_id in (before.index_key_id, incoming) for field in ("address", "tax_id")
    }
    assert len(keys.idempotency_keys(b"order 17", b"{}")) == 2


async def test_a_reload_returns_when_no_request_writes_under_older_keys(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_LAST", timedelta(milliseconds=50))
    keys = await other.tenant(tenant_id)
    await add_index_key(db, keyring, tenant_id)
    with keys.uses, keys.uses:
        for _ in range(2):
            with pytest.raises(KeysNotFollowed, match="still being stored"):
                await other.reload()
        assert len((await other.tenant(tenant_id)).index_keys) == 2, "new requests use the new keys"
    await other.reload()


async def test_a_tenant_that_is_loaded_while_keys_are_reloaded_gets_the_new_ones(
    db: Database, keyring: Keyring, other: Keyring, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keyring.tenant(tenant_id)
    has_read, may_go_on = asyncio.Event(), asyncio.Event()
    read = data_keys.list_keys_in_use

    async def read_slowly(*given: Any) -> list[store.StoredKey]:
        found = await read(*given)
        has_read.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(data_keys, "list_keys_in_use", read_slowly)
    loading = asyncio.create_task(other.tenant(tenant_id))
    await has_read.wait()
    monkeypatch.setattr(data_keys, "list_keys_in_use", read)
    newest = await keyring.renew_field_key(tenant_id)
    await other.reload()
    may_go_on.set()
    assert (await loading).field_key.key_id == newest


async def test_keys_that_were_all_destroyed_stay_loaded(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys = await keyring.tenant(tenant_id)
    await db.execute("UPDATE crypto_key SET state = 'destroyed' WHERE purpose = 2")
    await keyring.reload()
    assert await keyring.tenant(tenant_id) is keys
