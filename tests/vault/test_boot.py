"""The first second: which root key may begin a database, which may serve it, and which is refused."""

import asyncio
import os
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import WrongRootKey
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.vault.boot import SAMPLE_KEYS
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import RootKey, derive_root
from email_gateway.vault.wraps import make_canary, open_canary
from tests.conftest import KEY, SALT
from tests.given_roots import only
from tests.vault.keys import add_tenants

pytestmark = pytest.mark.anyio

ROOT = derive_root(KEY, SALT)
FETCHABLE = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"


async def snapshot(db: Database) -> list[object]:
    """Everything in the tables of the vault."""
    tables = ("crypto_root", "crypto_key", "crypto_key_wrap", "crypto_instance")
    return [[tuple(row) for row in await db.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")] for table in tables]


async def test_first_start_writes_an_active_root_with_its_versions_and_a_canary(db: Database) -> None:
    await Keyring.start(db, only(ROOT))
    (root,) = await store.list_roots(db)
    assert (root.root_id, root.state) == (ROOT.root_id, "active")
    assert (root.key_version_id, root.salt_version_id) == ("key-version-1", "salt-version-1")
    assert root.activated_at is not None
    open_canary(ROOT, root.canary)


async def test_second_start_changes_nothing(db: Database, keyring: Keyring) -> None:
    before = await store.list_roots(db)
    await Keyring.start(db, only(ROOT))
    assert await store.list_roots(db) == before


@pytest.mark.parametrize(
    "pair",
    [
        ("another encryption key, forty characters!", SALT),
        (KEY, "another encryption salt, forty character"),
        (SALT, KEY),
    ],
    ids=["another key", "another salt", "swapped"],
)
async def test_another_root_is_refused_by_name_and_nothing_is_written(
    db: Database, keyring: Keyring, pair: tuple[str, str]
) -> None:
    before = await snapshot(db)
    wrong = derive_root(*pair)
    with pytest.raises(WrongRootKey) as refused:
        await Keyring.start(db, only(wrong, "key-version-2", "salt-version-2"))
    message = str(refused.value)
    for named in (wrong.root_id.hex(), ROOT.root_id.hex(), "key-version-2", "salt-version-2", "key-version-1"):
        assert named in message
    assert not any(secret in message for secret in (*pair, KEY, SALT))
    assert await snapshot(db) == before


@pytest.mark.parametrize("state", ["pending", "retiring", "retired"])
async def test_a_root_that_is_known_takes_over_where_none_is_active(db: Database, keyring: Keyring, state: str) -> None:
    await db.execute("UPDATE crypto_root SET state = $1", state)
    await Keyring.start(db, only(ROOT))
    assert [root.state for root in await store.list_roots(db)] == ["active"]


SEALED_ROWS = {
    "message": "INSERT INTO message (tenant_id, message_id, sealed_content, size, sender_domain, delivery_count,"
    " expires_at) VALUES ($1, $1, '\\xe1' || sha512('')::bytea, 1, 'example.com', 1, now())",
    "attachment": "INSERT INTO attachment (tenant_id, message_id, position, attachment_id, sealed_content, size)"
    " VALUES ($1, $1, 0, $1, '\\xe1', 1)",
    "event": "INSERT INTO event (tenant_id, message_id, kind, sealed_reply) VALUES ($1, $1, 'bounced', '\\xe1')",
    "inbox_mail": "INSERT INTO inbox_mail (tenant_id, inbox_id, message_id, recipients, sealed_raw, size)"
    " VALUES ($1, $1, $1, '{0}', '\\xe1', 1)",
    "dkim_key": "WITH made AS (INSERT INTO domain (tenant_id, domain_id, name) VALUES ($1, $1, 'acme.example')"
    " RETURNING tenant_id) INSERT INTO dkim_key (tenant_id, domain_id, dkim_key_id, selector, algorithm, public_key,"
    " sealed_private_key) SELECT tenant_id, $1, $1, 'eg', 'rsa-sha256', '', '\\xe1' FROM made",
    "blind_index": "INSERT INTO blind_index (tenant_id, field, index_key_id, value, message_id)"
    " VALUES ($1, 'address', uuid_send($1), uuid_send($1), $1)",
    "idempotency": "INSERT INTO idempotency (tenant_id, key_hmac, fingerprint, response, expires_at)"
    " VALUES ($1, uuid_send($1), sha256(''), '', now())",
    "crypto_key": "INSERT INTO crypto_key (key_id, tenant_id, purpose) VALUES (uuid_send($1), $1, 1)",
}


@pytest.mark.parametrize("table", SEALED_ROWS)
async def test_an_empty_crypto_root_beside_what_was_sealed_is_refused(
    db: Database, tenant_id: UUID, table: str
) -> None:
    await db.execute(SEALED_ROWS[table], tenant_id)
    with pytest.raises(WrongRootKey, match="crypto_root is empty"):
        await Keyring.start(db, only(ROOT))
    assert await store.list_roots(db) == []


async def test_every_table_with_a_sealed_column_is_looked_at_before_a_beginning(db: Database) -> None:
    rows = await db.fetch("SELECT table_name FROM information_schema.columns WHERE column_name LIKE 'sealed%'")
    tables = {row["table_name"] for row in rows}
    sealing = {"dkim_key", "suppression", "template_version", "webhook", "webhook_delivery"}
    assert {"message", "attachment", "event", "inbox_mail", *sealing} <= tables
    assert {table for table in tables if f"FROM {table}" not in store.SQL.holds_sealed_values} == set()


async def test_rows_that_hold_nothing_sealed_do_not_stand_in_the_way(db: Database, tenant_id: UUID) -> None:
    await db.execute("INSERT INTO event (tenant_id, message_id, kind) VALUES ($1, $1, 'accepted')", tenant_id)
    await Keyring.start(db, only(ROOT))


async def test_processes_that_begin_together_agree_on_one_root(db: Database) -> None:
    await asyncio.gather(*(Keyring.start(db, only(ROOT)) for _ in range(8)))
    assert [root.root_id for root in await store.list_roots(db)] == [ROOT.root_id]


async def test_of_two_roots_that_begin_together_one_wins(db: Database) -> None:
    roots = [ROOT, derive_root(SALT, KEY)]
    started = await asyncio.gather(*(Keyring.start(db, only(root)) for root in roots * 4), return_exceptions=True)
    (stored,) = await store.list_roots(db)
    for root, result in zip(roots * 4, started, strict=True):
        assert isinstance(result, Keyring if root.root_id == stored.root_id else WrongRootKey)


def changed_canaries(root: RootKey) -> dict[str, bytes]:
    good = make_canary(root)
    return {
        "a flipped bit": good[:50] + bytes((good[50] ^ 1,)) + good[51:],
        "another root's": make_canary(derive_root(SALT, KEY)),
        "cut short": good[:-1],
        "empty": b"",
    }


@pytest.mark.parametrize("how", changed_canaries(ROOT))
async def test_a_changed_canary_is_refused(db: Database, keyring: Keyring, how: str) -> None:
    await db.execute("UPDATE crypto_root SET canary = $1", changed_canaries(ROOT)[how])
    with pytest.raises(WrongRootKey, match=f"canary of root key {ROOT.root_id.hex()}"):
        await Keyring.start(db, only(ROOT))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)",
        "UPDATE crypto_key_wrap SET parent_id = sha256(parent_id)",
        "DELETE FROM crypto_key_wrap",
        "UPDATE crypto_key SET purpose = 3 - purpose WHERE state = 'decrypt_only'",
        "UPDATE crypto_key SET tenant_id = (SELECT tenant_id FROM tenant WHERE name = 'other')",
    ],
    ids=["changed wrap", "wrap of another root", "no wrap", "another purpose", "another tenant"],
)
async def test_data_keys_that_do_not_open_are_refused_by_id(
    db: Database, keyring: Keyring, tenant_id: UUID, damage: str
) -> None:
    keys = await keyring.tenant(tenant_id)
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", uuid4())
    await db.execute("UPDATE crypto_key SET state = 'decrypt_only'")
    await db.execute(damage)
    with pytest.raises(WrongRootKey) as refused:
        await Keyring.start(db, only(ROOT))
    assert any(key_id.hex() in str(refused.value) for key_id in (keys.field_key.key_id, keys.index_key_id))


async def test_keys_that_were_destroyed_need_not_open(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    await keyring.tenant(tenant_id)
    await db.execute("UPDATE crypto_key SET state = 'destroyed'")
    await db.execute("DELETE FROM crypto_key_wrap")
    await Keyring.start(db, only(ROOT))


async def test_the_sample_is_bounded_and_goes_round(db: Database, keyring: Keyring) -> None:
    for tenant in await add_tenants(db, 60):
        await keyring.tenant(tenant)
    for start in (bytes(16), b"\x80" + bytes(15), b"\xff" * 16, os.urandom(16)):
        sampled = await store.sample_keys(db, ROOT.root_id, start, SAMPLE_KEYS)
        assert len({key.key_id for key in sampled}) == SAMPLE_KEYS
        assert all(key.blob for key in sampled)
    assert len(await store.sample_keys(db, ROOT.root_id, bytes(16), 500)) == 120


async def test_new_version_ids_of_the_same_secrets_are_remembered(db: Database, keyring: Keyring) -> None:
    await Keyring.start(db, only(ROOT, FETCHABLE, FETCHABLE[::-1]))
    (root,) = await store.list_roots(db)
    assert (root.key_version_id, root.salt_version_id) == (FETCHABLE, FETCHABLE[::-1])


async def test_ids_that_cannot_be_fetched_do_not_replace_those_that_can(db: Database) -> None:
    await Keyring.start(db, only(ROOT, FETCHABLE, FETCHABLE))
    await Keyring.start(db, only(ROOT, "environment", "environment"))
    (root,) = await store.list_roots(db)
    assert (root.key_version_id, root.salt_version_id) == (FETCHABLE, FETCHABLE)
