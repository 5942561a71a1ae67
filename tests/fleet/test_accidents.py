"""What operators and fate do to the secrets: what is said, what stays readable, and the way back."""

import json
from uuid import UUID, uuid4

import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from email_gateway.errors import ConfigurationError, WrongRootKey
from email_gateway.store.database import Database
from email_gateway.store.keys import list_roots
from email_gateway.vault.adoption import rescue
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots
from email_gateway.vault.roots import derive_root
from tests.fleet.conftest import Join
from tests.fleet.test_following import OLD_ROOT, active_root, opens, seal
from tests.fleet.test_refreshing import NEW_KEY
from tests.given_roots import only
from tests.moto_server import REGION
from tests.plugins.secrets_manager import VALUES, Aws, Start

pytestmark = pytest.mark.anyio

KEY, SALT = VALUES["encryption-key"], VALUES["encryption-salt"]
NEW_SALT = "MARK-new-salt-7a7a7a7a-1b1b-4c4c-8d8d-0123456789ab"


def prune(aws: Aws, name: str) -> None:
    """Delete the versions without a label: AWS does so beyond a hundred versions, moto never."""
    versions = get_backend("secretsmanager")[DEFAULT_ACCOUNT_ID][REGION].secrets[f"{aws.prefix}/{name}"].versions
    for version in [version for version, each in versions.items() if not each["version_stages"]]:
        del versions[version]


def replace_twice(aws: Aws, name: str, value: str) -> None:
    """Change a secret so that the version before has no label left, and prune it."""
    aws.put(name, f"{value}-which-nobody-ever-saw")
    aws.put(name, value)
    prune(aws, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("encryption-key", NEW_KEY), ("encryption-salt", NEW_SALT)],
    ids=["another key", "another salt"],
)
async def test_another_value_is_a_rotation_for_who_runs_and_who_starts(
    aws: Aws, db: Database, join: Join, tenant_id: UUID, name: str, value: str
) -> None:
    running = await join(is_following=False)
    sealed = await seal(running, tenant_id)
    aws.put(name, value)
    starting = await join()  # it goes over the old root, which it fetches by its versions
    assert await opens(starting, sealed)
    await running.secrets.refresh()
    await running.fleet.look()
    assert await opens(running, sealed)
    expected = derive_root(*(value if name == each else VALUES[each] for each in ("encryption-key", "encryption-salt")))
    assert await active_root(db) == expected.root_id


@pytest.mark.parametrize("name", ["encryption-key", "encryption-salt"])
async def test_a_start_without_the_old_value_is_refused_by_name_and_rescued_from_the_safe(
    aws: Aws, db: Database, join: Join, start: Start, tenant_id: UUID, name: str
) -> None:
    first = await join(is_following=False)
    sealed = await seal(first, tenant_id)
    replace_twice(aws, name, "MARK-the-newest-value-9c9c9c9c-0123456789ab")
    with pytest.raises(WrongRootKey) as refused:
        await join()
    message = str(refused.value)
    for named in (
        OLD_ROOT.root_id.hex(),
        aws.versions["encryption-key"],
        aws.versions["encryption-salt"],
        "keys rescue",
    ):
        assert named in message
    assert "MARK" not in message
    assert await active_root(db) == OLD_ROOT.root_id
    await rescue(db, SecretsRoots(await start()), derive_root(KEY, SALT))
    assert await opens(await join(), sealed)


async def test_a_running_fleet_rescues_itself_when_the_old_value_is_gone(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    running = await join(is_following=False)
    sealed = await seal(running, tenant_id)
    replace_twice(aws, "encryption-key", NEW_KEY)
    await running.secrets.refresh()
    await running.fleet.look()
    assert await opens(await join(), sealed)


async def test_swapping_key_and_salt_is_refused_halfway_and_a_rotation_in_the_end(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    member = await join(is_following=False)
    sealed = await seal(member, tenant_id)
    aws.put("encryption-key", SALT)
    await member.secrets.refresh()
    await member.fleet.look()
    assert member.secrets.status()["encryption-key"]["last_error"] == "malformed"
    assert await active_root(db) == OLD_ROOT.root_id
    with pytest.raises(ConfigurationError, match="must differ between encryption key and salt"):
        await join()
    aws.put("encryption-salt", KEY)
    await member.secrets.refresh()
    await member.fleet.look()
    assert await active_root(db) == derive_root(SALT, KEY).root_id
    assert await opens(member, sealed)
    assert await opens(await join(), sealed)


@pytest.mark.parametrize("name", ["encryption-key", "encryption-salt", "admin-api-key"])
async def test_a_deleted_secret_serves_on_refuses_starts_and_is_restored(
    aws: Aws, join: Join, tenant_id: UUID, name: str
) -> None:
    member = await join(is_following=False)
    sealed = await seal(member, tenant_id)
    aws.client.delete_secret(SecretId=f"{aws.prefix}/{name}")
    await member.secrets.refresh()
    await member.fleet.look()
    assert await opens(member, sealed)
    assert member.secrets.admin_key_matches(VALUES["admin-api-key"])
    with pytest.raises(ConfigurationError, match="restore-secret") as refused:
        await join()
    assert f"{aws.prefix}/{name}" in str(refused.value)
    aws.client.restore_secret(SecretId=f"{aws.prefix}/{name}")
    assert await opens(await join(), sealed)


async def test_a_recreated_secret_is_rescued_by_who_runs(aws: Aws, db: Database, join: Join, tenant_id: UUID) -> None:
    member = await join(is_following=False)
    sealed = await seal(member, tenant_id)
    aws.client.delete_secret(SecretId=f"{aws.prefix}/encryption-key", ForceDeleteWithoutRecovery=True)
    aws.create({"encryption-key": NEW_KEY})
    with pytest.raises(WrongRootKey, match="keys rescue"):
        await join()  # alone it could open nothing
    await member.secrets.refresh()
    await member.fleet.look()
    assert await opens(await join(), sealed)


async def test_a_database_from_before_the_last_rotation_is_brought_up_to_it(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    member = await join(is_following=False)
    sealed = await seal(member, tenant_id)
    for table in ("crypto_root", "crypto_key_wrap"):
        await db.execute(f"CREATE TABLE backup_of_{table} AS TABLE {table}")
    aws.put("encryption-key", NEW_KEY)
    await member.secrets.refresh()
    await member.fleet.look()
    await member.fleet.close()
    for table in ("crypto_root", "crypto_key_wrap"):
        await db.execute(f"TRUNCATE {table}")
        await db.execute(f"INSERT INTO {table} TABLE backup_of_{table}")
    assert [root.state for root in await list_roots(db)] == ["active"]
    restored = await join()
    assert await active_root(db) == derive_root(NEW_KEY, SALT).root_id
    assert await opens(restored, sealed)


async def test_an_empty_crypto_root_beside_sealed_rows_is_no_beginning(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    member = await join(is_following=False)
    sealed = await seal(member, tenant_id)
    await db.execute("CREATE TABLE backup_of_crypto_root AS TABLE crypto_root")
    await db.execute("DELETE FROM crypto_root")
    with pytest.raises(WrongRootKey, match="restore crypto_root, crypto_key and crypto_key_wrap from the same backup"):
        await join()
    await member.fleet.look()
    assert await opens(member, sealed)
    await db.execute("INSERT INTO crypto_root TABLE backup_of_crypto_root")
    assert await opens(await join(), sealed)


async def test_mail_sealed_under_a_key_that_was_stored_wrapped_stays_readable_once_the_value_is_stored_alone(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    # A release that took braces for a part of the key has made this root key and sealed under it.
    wrapped = json.dumps({"encryption-key": NEW_KEY})
    root, version = derive_root(wrapped, SALT), aws.put("encryption-key", wrapped)
    keyring = await Keyring.start(db, only(root, version, aws.versions["encryption-salt"]))
    row = uuid4()
    sealed = (await keyring.tenant(tenant_id)).seal("message.content", row, b"MARK")
    with pytest.raises(ConfigurationError, match="a JSON object"):
        await join()
    aws.put("encryption-key", NEW_KEY)
    member = await join()
    assert await member.keyring.open(tenant_id, "message.content", row, sealed) == b"MARK"
