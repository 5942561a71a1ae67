"""The keyring against a real database: keys made once, shared, loaded by id, and never lost."""

import asyncio
import base64
import os
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import DatabaseUnavailable, GatewayError, KeyUnavailable, Tampered
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.vault.data_keys import FieldKey, IndexKey, make_material
from email_gateway.vault.keyring import OFF_LOOP_BYTES, Keyring
from email_gateway.vault.roots import derive_root
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, unwrap, wrap
from tests.conftest import KEY, SALT
from tests.given_roots import only
from tests.vault.keys import add_tenants

pytestmark = pytest.mark.anyio

ROOT = derive_root(KEY, SALT)
FIELD = "message.content"
PLAINTEXT = "São Paulo, boleto de João".encode()


async def again(db: Database) -> Keyring:
    """Another process with the same secrets."""
    return await Keyring.start(db, only(ROOT))


async def test_a_tenant_gets_one_key_of_each_purpose_with_a_wrap_that_opens(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    keys = await keyring.tenant(tenant_id)
    stored = {key.purpose: key for key in await store.list_active_keys(db, tenant_id, [ROOT.root_id])}
    assert {purpose: key.key_id for purpose, key in stored.items()} == {
        Purpose.FIELD: keys.field_key.key_id,
        Purpose.INDEX: keys.index_key_id,
    }
    for purpose in Purpose:
        key = stored[purpose]
        assert key.blob is not None
        assert len(unwrap(ROOT, KeyName(key.key_id, tenant_id, purpose), key.blob)) == 32


async def test_keys_are_made_once_and_then_served_from_memory(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    first = await keyring.tenant(tenant_id)
    assert await keyring.tenant(tenant_id) is first
    assert sum((await store.count_keys(db)).values()) == 2


async def test_another_process_opens_what_the_first_one_sealed(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys, row = await keyring.tenant(tenant_id), uuid4()
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    other = await again(db)
    assert await other.open(tenant_id, FIELD, row, sealed) == PLAINTEXT


async def test_a_large_value_opens_as_a_small_one_does(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    row, plaintext = uuid4(), os.urandom(OFF_LOOP_BYTES + 1)
    sealed = (await keyring.tenant(tenant_id)).seal(FIELD, row, plaintext)
    assert await (await again(db)).open(tenant_id, FIELD, row, sealed) == plaintext
    with pytest.raises(Tampered):
        await keyring.open(tenant_id, FIELD, uuid4(), sealed)


async def test_processes_make_the_same_blind_indexes(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys, others = await keyring.tenant(tenant_id), await (await again(db)).tenant(tenant_id)
    assert keys.index_key_id == others.index_key_id
    assert keys.blind("tax_id", 1, b"52998224725") == others.blind("tax_id", 1, b"52998224725")
    assert keys.fingerprint(b"{}") == others.fingerprint(b"{}")


async def test_processes_that_race_to_make_a_tenants_keys_agree(
    db: Database, database_url: str, keyring: Keyring, tenant_id: UUID
) -> None:
    pools = [await Database.connect(database_url, pool_size=2) for _ in range(6)]
    try:
        keyrings = [await again(pool) for pool in pools]
        held = await asyncio.gather(*(keyring.tenant(tenant_id) for keyring in keyrings for _ in range(5)))
        assert len({keys.field_key.key_id for keys in held}) == len({keys.index_key_id for keys in held}) == 1
        assert await store.count_keys(db) == {(1, "active"): 1, (2, "active"): 1}
        assert await store.count_wraps(db) == {ROOT.root_id: 2}
        row = uuid4()
        sealed = held[0].seal(FIELD, row, PLAINTEXT)
        assert [await each.open(tenant_id, FIELD, row, sealed) for each in keyrings] == [PLAINTEXT] * len(keyrings)
    finally:
        for pool in pools:
            await pool.close()


async def test_the_loser_of_a_race_waits_for_the_winners_commit(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    materials = {purpose: make_material() for purpose in Purpose}
    async with db.transaction() as winner:
        await store.lock_roots_shared(winner)
        for purpose, material in materials.items():
            name = KeyName(FieldKey(material, tenant_id).key_id, tenant_id, purpose)
            key = store.StoredKey(name.key_id, tenant_id, purpose, "active", None)
            await store.add_key(winner, key, {ROOT.root_id: wrap(ROOT, name, material)})
        loser = asyncio.create_task(keyring.tenant(tenant_id))
        await wait_until_blocked(db)
    keys = await loser
    assert keys.field_key.key_id == FieldKey(materials[Purpose.FIELD], tenant_id).key_id
    assert keys.index_key_id == IndexKey(materials[Purpose.INDEX], tenant_id).key_id


async def test_no_key_is_made_while_a_root_comes_or_goes(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    async with db.transaction() as adoption:
        await store.lock_roots(adoption)
        making = asyncio.create_task(keyring.tenant(tenant_id))
        await wait_until_blocked(db)
        assert await store.count_keys(db) == {}
    await making
    assert sum((await store.count_keys(db)).values()) == 2


async def wait_until_blocked(db: Database) -> None:
    """Return once some statement in this database waits for a lock."""
    blocked = "SELECT count(*) AS count FROM pg_locks JOIN pg_stat_activity USING (pid)"
    blocked += " WHERE NOT granted AND datname = current_database()"
    async with asyncio.timeout(20):
        while (await db.fetch(blocked))[0]["count"] == 0:  # noqa: ASYNC110 - a lock tells nobody
            await asyncio.sleep(0.01)


async def test_no_key_is_made_while_the_active_root_is_out_of_reach(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    newer = derive_root(SALT, KEY)
    await db.execute("UPDATE crypto_root SET state = 'retiring'")
    await db.execute(
        "INSERT INTO crypto_root (root_id, key_version_id, salt_version_id, state, canary)"
        " VALUES ($1, '2', '2', 'active', $2)",
        newer.root_id,
        make_canary(newer),
    )
    with pytest.raises(KeyUnavailable, match=newer.root_id.hex()):
        await keyring.tenant(tenant_id)
    assert await store.count_keys(db) == {}


async def test_no_key_is_made_without_an_active_root(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    await db.execute("DELETE FROM crypto_root")
    with pytest.raises(KeyUnavailable, match="no active root"):
        await keyring.tenant(tenant_id)


async def test_tenants_have_keys_of_their_own(db: Database, keyring: Keyring) -> None:
    one, two = [await keyring.tenant(tenant) for tenant in await add_tenants(db, 2)]
    assert len({one.field_key.key_id, two.field_key.key_id, one.index_key_id, two.index_key_id}) == 4
    assert one.blind("tax_id", 1, b"52998224725") != two.blind("tax_id", 1, b"52998224725")


async def test_values_swapped_between_rows_columns_or_tenants_do_not_open(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    (other_tenant,) = await add_tenants(db, 1)
    keys, row = await keyring.tenant(tenant_id), uuid4()
    await keyring.tenant(other_tenant)
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    for process in (keyring, await again(db)):
        for place in ((other_tenant, FIELD, row), (tenant_id, "message.tax_id", row), (tenant_id, FIELD, uuid4())):
            with pytest.raises(Tampered):
                await process.open(*place, sealed)
        assert await process.open(tenant_id, FIELD, row, sealed) == PLAINTEXT


async def test_a_value_that_names_no_key_of_ours_is_tampered(keyring: Keyring, tenant_id: UUID) -> None:
    row = uuid4()
    foreign = FieldKey(make_material(), tenant_id)
    with pytest.raises(Tampered, match=foreign.key_id.hex()):
        await keyring.open(tenant_id, FIELD, row, foreign.seal(FIELD, row, PLAINTEXT))
    for sealed in (b"", b"plain text in the column", b"\xe1\x09" + os.urandom(80), b"\xe1\x02" + os.urandom(88)):
        with pytest.raises(Tampered):
            await keyring.open(tenant_id, FIELD, row, sealed)


async def test_an_index_key_never_opens_a_value(keyring: Keyring, tenant_id: UUID) -> None:
    keys, row = await keyring.tenant(tenant_id), uuid4()
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    with pytest.raises(Tampered, match="names the field key"):
        await keyring.open(tenant_id, FIELD, row, sealed[:2] + keys.index_key_id + sealed[18:])


async def test_a_destroyed_key_opens_nothing_in_a_new_process(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys, row = await keyring.tenant(tenant_id), uuid4()
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    await db.execute("UPDATE crypto_key SET state = 'destroyed'")
    with pytest.raises(Tampered, match="destroyed"):
        await (await again(db)).open(tenant_id, FIELD, row, sealed)


async def test_a_key_that_only_decrypts_still_opens_and_a_new_one_seals(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    keys, row = await keyring.tenant(tenant_id), uuid4()
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    await db.execute("UPDATE crypto_key SET state = 'decrypt_only' WHERE purpose = 1")
    other = await again(db)
    newer = await other.tenant(tenant_id)
    assert newer.field_key.key_id != keys.field_key.key_id
    assert newer.index_key_id == keys.index_key_id
    assert await other.open(tenant_id, FIELD, row, sealed) == PLAINTEXT
    assert await keyring.open(tenant_id, FIELD, row, newer.seal(FIELD, row, PLAINTEXT)) == PLAINTEXT


async def test_a_key_without_a_wrap_at_hand_is_unavailable_and_not_tampered(
    db: Database, keyring: Keyring, tenant_id: UUID
) -> None:
    keys, row, other = await keyring.tenant(tenant_id), uuid4(), await again(db)
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    wraps = await db.fetch("SELECT key_id, parent_id, blob FROM crypto_key_wrap")
    await db.execute("DELETE FROM crypto_key_wrap")
    with pytest.raises(KeyUnavailable):
        await other.open(tenant_id, FIELD, row, sealed)
    with pytest.raises(KeyUnavailable):
        await other.tenant(tenant_id)
    # A failure is not remembered: once the wraps are back, so are the keys.
    for wrapped in wraps:
        await db.execute("INSERT INTO crypto_key_wrap (key_id, parent_id, blob) VALUES ($1, $2, $3)", *wrapped)
    assert await other.open(tenant_id, FIELD, row, sealed) == PLAINTEXT
    assert (await other.tenant(tenant_id)).index_key_id == keys.index_key_id


async def test_a_changed_wrap_is_tampered(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys, row, other = await keyring.tenant(tenant_id), uuid4(), await again(db)
    sealed = keys.seal(FIELD, row, PLAINTEXT)
    await db.execute("UPDATE crypto_key_wrap SET blob = set_byte(blob, 89, get_byte(blob, 89) # 128)")
    with pytest.raises(Tampered):
        await other.open(tenant_id, FIELD, row, sealed)
    with pytest.raises(Tampered):
        await other.tenant(tenant_id)


async def test_loaded_keys_outlive_their_rows_and_the_database(
    db: Database, database_url: str, keyring: Keyring, tenant_id: UUID
) -> None:
    pool = await Database.connect(database_url, pool_size=1)
    holder, row = await again(pool), uuid4()
    sealed = (await holder.tenant(tenant_id)).seal(FIELD, row, PLAINTEXT)
    await db.execute("DELETE FROM crypto_key_wrap")
    await pool.close()
    assert await holder.open(tenant_id, FIELD, row, sealed) == PLAINTEXT
    assert (await holder.tenant(tenant_id)).seal(FIELD, row, PLAINTEXT)[:18] == sealed[:18]
    with pytest.raises(DatabaseUnavailable):
        await holder.tenant(uuid4())


async def test_nothing_of_the_vault_shows_key_material(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    keys = await keyring.tenant(tenant_id)
    stored = await store.list_active_keys(db, tenant_id, [ROOT.root_id])
    materials = [unwrap(ROOT, KeyName(key.key_id, tenant_id, Purpose(key.purpose)), key.blob or b"") for key in stored]
    shown = [keyring, keys, keys.field_key, keys.index_key, ROOT, ROOT.xaes, *stored, *await store.list_roots(db)]
    errors: list[GatewayError] = []
    for sealed in (b"x" * 80, keys.seal(FIELD, uuid4(), PLAINTEXT)):
        with pytest.raises(Tampered) as refused:
            await keyring.open(tenant_id, FIELD, uuid4(), sealed)
        errors.append(refused.value)
    text = " ".join(map(repr, [*shown, *errors])) + " ".join(map(str, [*shown, *errors]))
    for secret in (*materials, KEY.encode(), SALT.encode(), PLAINTEXT, *(key.blob for key in stored if key.blob)):
        for mark in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert mark not in text
    assert keys.field_key.key_id.hex() in text
