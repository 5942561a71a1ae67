"""`keys verify`, `retire` and `rescue` as an operator runs them."""

from pathlib import Path
from uuid import UUID

import pytest

from email_gateway.cli.exits import EX_CONFIG
from email_gateway.store import keys as store
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.vault.adoption import adopt
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.cli.test_commands import run, told
from tests.conftest import KEY, SALT
from tests.given_roots import only, sourced

pytestmark = pytest.mark.anyio

NEW_KEY = "MARK-the-next-encryption-key-of-forty-characters"
ROOT, NEW_ROOT = derive_root(KEY, SALT), derive_root(NEW_KEY, SALT)


def environ(database_url: str, key: str = KEY) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEY": key,
        "ENCRYPTION_SALT": SALT,
        "ADMIN_API_KEY": "an-admin-key-for-tests-of-forty-characters",
    }


@pytest.fixture
async def sealed(keyring: Keyring, tenant_id: UUID) -> Keyring:
    """A database with the keys of one tenant."""
    await keyring.tenant(tenant_id)
    return keyring


async def test_verify_counts_what_opens_and_notes_the_day(database_url: str, db: Database, sealed: Keyring) -> None:
    assert await told("keys", "verify", **environ(database_url)) == {"root_id": ROOT.root_id.hex(), "data_keys": 2}
    (root,) = await store.list_roots(db)
    assert root.verified_at is not None
    people = await run("keys", "verify", **environ(database_url))
    assert f"all 2 data keys open under root key {ROOT.root_id.hex()}" in people.stdout.decode()


async def test_verify_fails_when_a_key_was_changed(database_url: str, db: Database, sealed: Keyring) -> None:
    await db.execute("UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)")
    done = await run("keys", "verify", **environ(database_url))
    assert done.returncode == EX_CONFIG
    assert b"does not open data key" in done.stderr


async def test_retire_says_what_became_of_each_root(database_url: str, db: Database, sealed: Keyring) -> None:
    assert await told("keys", "retire", **environ(database_url)) == {"roots": []}
    assert b"no root key is retiring" in (await run("keys", "retire", **environ(database_url))).stdout
    sealed.roots.source.current = sourced(NEW_ROOT)  # type: ignore[attr-defined]
    await adopt(db, sealed.roots)
    young = await told("keys", "retire", **environ(database_url, NEW_KEY))
    assert young["roots"][0]["kept_because"] == "retiring for 0 of 7 days"
    people = await run("keys", "retire", "--after-days", "0", **environ(database_url, NEW_KEY))
    assert b"retired" in people.stdout
    assert [root.state for root in await store.list_roots(db)] == ["retired", "active"]


async def test_retire_names_the_process_that_is_behind(database_url: str, db: Database, sealed: Keyring) -> None:
    sealed.roots.source.current = sourced(NEW_ROOT)  # type: ignore[attr-defined]
    await adopt(db, sealed.roots)
    await db.execute(
        "INSERT INTO crypto_instance (instance, roots_held, release, process, host, pid)"
        " VALUES (gen_random_uuid(), '{}', '0', 'worker', 'node-7', 42)"
    )
    done = await run("keys", "retire", "--after-days", "0", **environ(database_url, NEW_KEY))
    assert done.returncode == 1
    assert b"worker 42 on node-7" in done.stderr


async def test_rescue_brings_a_refused_database_back(
    database_url: str, db: Database, sealed: Keyring, tmp_path: Path
) -> None:
    key_file, salt_file = tmp_path / "key", tmp_path / "salt"
    key_file.write_text(f"{KEY}\n")
    salt_file.write_text(SALT)
    refused = await run("keys", "verify", **environ(database_url, NEW_KEY))
    assert refused.returncode == EX_CONFIG
    assert b"keys rescue" in refused.stderr
    files = ("--key-file", str(key_file), "--salt-file", str(salt_file))
    done = await told("keys", "rescue", *files, **environ(database_url, NEW_KEY))
    assert done == {"root_id": NEW_ROOT.root_id.hex(), "data_keys": 2}
    assert await told("keys", "verify", **environ(database_url, NEW_KEY)) == done
    assert "root.rescued" in [entry.action for entry in await list_audit(db)]
    await Keyring.start(db, only(NEW_ROOT))


async def test_rescue_with_other_values_changes_nothing(
    database_url: str, db: Database, sealed: Keyring, tmp_path: Path
) -> None:
    file, salt_file = tmp_path / "key", tmp_path / "salt"
    salt_file.write_text(SALT)
    for text, code, said in (
        ("another-key-that-was-never-here-0123456789", EX_CONFIG, b"does not know"),
        ("short", 1, b"must have at least 32 characters"),
    ):
        file.write_text(text)
        done = await run(
            "keys", "rescue", "--key-file", str(file), "--salt-file", str(salt_file), **environ(database_url, NEW_KEY)
        )
        assert done.returncode == code
        assert said in done.stderr
        assert text.encode() not in done.stderr
    assert [root.root_id for root in await store.list_roots(db)] == [ROOT.root_id]
