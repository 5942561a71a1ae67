"""`secrets drill`: what an export opens of the database of today, and what not; the database stays as it was."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import SecretsManagerSource
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots
from tests.cli.secrets.conftest import Ran, Shell
from tests.cli.secrets.exports import export, keys, seal
from tests.makers import new_message, new_request
from tests.plugins.secrets_manager import PATIENT, Aws

pytestmark = pytest.mark.anyio

TABLES = ("crypto_root", "crypto_key", "crypto_key_wrap", "message", "audit")


async def adopt(aws: Aws, db: Database) -> Keyring:
    """Start on the secrets as they are now, as a process does."""
    settings = aws.settings()
    service = await SecretsService.start(settings, source=await SecretsManagerSource.open(settings, PATIENT))
    keyring = await Keyring.start(db, SecretsRoots(service))
    await service.close()
    return keyring


async def seal_mail(db: Database, keyring: Keyring, tenant_id: UUID) -> UUID:
    """Store a message whose content is sealed; return its id."""
    key = (await keyring.tenant(tenant_id)).field_key
    message = new_message()
    content = key.seal("message.content", message.message_id, b"MARK-personal")
    acceptor = Acceptor(db)
    await acceptor.accept(
        new_request(tenant_id, new_message(message_id=message.message_id, sealed_content=content)),
    )
    await acceptor.close()
    return message.message_id


@pytest.fixture
async def sealed(aws: Aws, db: Database, tenant_id: UUID) -> list[UUID]:
    """A database with three mails, the last sealed under a newer data key."""
    keyring = await adopt(aws, db)
    mails = [await seal_mail(db, keyring, tenant_id) for _ in range(2)]
    await keyring.renew_field_key(tenant_id)
    return [*mails, await seal_mail(db, keyring, tenant_id)]


@pytest.fixture
def shell(shell_of_fleet: Shell, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return shell_of_fleet


async def run(shell: Shell, *arguments: str) -> Ran:
    return await asyncio.to_thread(shell.run, *arguments)


async def drilled(shell: Shell, file: Path, folder: Path, code: int) -> Any:
    ran = await run(shell, "drill", str(file), *keys(folder), "--json")
    assert ran.code == code, ran
    assert ran.told["is_good"] is (code == 0)
    return ran.told["drilled"]


async def contents(db: Database) -> dict[str, list[str]]:
    return {
        table: sorted(row["text"] for row in await db.fetch(f"SELECT {table}::text || xmin AS text FROM {table}"))
        for table in TABLES
    }


async def test_an_export_of_today_opens_all_and_changes_nothing(
    shell: Shell, db: Database, sealed: list[UUID], tmp_path: Path
) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    before = await contents(db)
    ran = await run(shell, "drill", str(file), *keys(tmp_path))
    assert ran.code == 0, ran
    assert "the export opens this database" in ran.out
    told = await drilled(shell, file, tmp_path, 0)
    assert (told["data_keys"], told["opened_data_keys"]) == (3, 3)
    assert (told["values"], told["opened_values"]) == (3, 3)
    (root,) = told["roots"]
    assert (root["state"], root["is_proven"], root["data_keys"]) == ("active", True, 3)
    assert await contents(db) == before


async def test_nothing_of_aws_is_asked(shell: Shell, sealed: list[UUID], tmp_path: Path) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    asked = len(shell.proxy.requests)
    await drilled(shell, file, tmp_path, 0)
    assert len(shell.proxy.requests) == asked


async def test_an_export_from_before_a_rotation_lacks_the_active_root_and_what_came_after(
    aws: Aws, shell: Shell, db: Database, sealed: list[UUID], tenant_id: UUID, tmp_path: Path
) -> None:
    old = await asyncio.to_thread(export, shell, tmp_path)
    assert (await run(shell, "rotate", "encryption-key")).code == 0
    keyring = await adopt(aws, db)
    told = await drilled(shell, old, tmp_path, 1)
    assert told["opened_data_keys"] == 3  # wraps are only added: the old root key still opens them
    assert [(each["what"], each["reason"]) for each in told["unopened"]] == [
        ("root key", "the export cannot make the active root key")
    ]
    lacking = [(root["state"], root["is_proven"]) for root in told["roots"]]
    assert lacking == [("retiring", True), ("active", None)]

    # Once the old root key has gone, the old export opens nothing.
    await db.execute("DELETE FROM crypto_key_wrap WHERE parent_id <> $1", keyring.roots.source.held().root.root_id)
    ran = await run(shell, "drill", str(old), *keys(tmp_path))
    assert ran.code == 1
    assert "no root key of the export has a wrap of it" in ran.out
    assert "lacks it" in ran.out
    assert "next:  take another export" in ran.out
    told = await drilled(shell, old, tmp_path, 1)
    assert (told["opened_data_keys"], told["opened_values"], told["values"]) == (0, 0, 3)

    new = await asyncio.to_thread(export, shell, tmp_path, "new.age")
    assert [root["is_proven"] for root in (await drilled(shell, new, tmp_path, 0))["roots"]] == [True, True]


async def test_a_changed_wrap_canary_or_value_is_named(
    shell: Shell, db: Database, sealed: list[UUID], tmp_path: Path
) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    flip = "set_byte({0}, 60, get_byte({0}, 60) # 1)"
    await db.execute(
        f"UPDATE message SET sealed_content = {flip.format('sealed_content')} WHERE message_id = $1", sealed[0]
    )
    told = await drilled(shell, file, tmp_path, 1)
    assert [(each["what"], each["name"]) for each in told["unopened"]] == [("message.content", str(sealed[0]))]
    assert told["opened_values"] == 2

    row = await db.fetch_one(
        f"UPDATE crypto_key_wrap SET blob = {flip.format('blob')}"
        " WHERE key_id = (SELECT min(key_id) FROM crypto_key) RETURNING key_id"
    )
    assert row is not None
    told = await drilled(shell, file, tmp_path, 1)
    assert row["key_id"].hex() in {each["name"] for each in told["unopened"] if each["what"] == "data key"}
    assert told["opened_data_keys"] == 2

    await db.execute(f"UPDATE crypto_root SET canary = {flip.format('canary')}")
    ran = await run(shell, "drill", str(file), *keys(tmp_path))
    assert ran.code == 1
    assert "does not fit" in ran.out
    assert "MARK" not in ran.out


async def test_a_value_that_names_a_key_which_is_not_there_is_named(
    shell: Shell, db: Database, sealed: list[UUID], tmp_path: Path
) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    await db.execute(
        "UPDATE message SET sealed_content = overlay(sealed_content PLACING $2 FROM 3) WHERE message_id = $1",
        sealed[2],
        uuid4().bytes,
    )
    (unopened,) = (await drilled(shell, file, tmp_path, 1))["unopened"]
    assert unopened["reason"].startswith("the database has no data key")


async def test_people_get_the_first_of_many(
    shell: Shell, db: Database, sealed: list[UUID], aws: Aws, tenant_id: UUID, tmp_path: Path
) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    await db.execute(
        "INSERT INTO crypto_key (key_id, tenant_id, purpose, state)"
        " SELECT substr(sha256(n::text::bytea), 1, 16), $1, 1, 'decrypt_only' FROM generate_series(1, 25) AS n",
        tenant_id,
    )
    ran = await run(shell, "drill", str(file), *keys(tmp_path))
    assert ran.code == 1
    assert ran.out.count("does not open: data key") == 20
    assert "and 5 more" in ran.out


async def test_keys_that_can_make_no_root_are_passed_over(
    shell: Shell, db: Database, sealed: list[UUID], tmp_path: Path
) -> None:
    shell.client.put_secret_value(
        SecretId=f"{shell.prefix}/encryption-key", SecretString="too short", VersionStages=["AWSPENDING"]
    )
    file = await asyncio.to_thread(export, shell, tmp_path)
    await drilled(shell, file, tmp_path, 0)


async def test_a_database_without_a_root_key_proves_nothing(shell: Shell, tmp_path: Path) -> None:
    file = await asyncio.to_thread(export, shell, tmp_path)
    ran = await run(shell, "drill", str(file), *keys(tmp_path))
    assert ran.code == 1
    assert "nothing was ever sealed in it" in ran.err


async def test_what_is_no_export_never_reaches_the_database(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(export, shell, tmp_path)
    monkeypatch.delenv("DATABASE_URL")
    ran = await run(shell, "drill", str(seal(b"{}", tmp_path / "odd.age")), *keys(tmp_path))
    assert ran.code == 1
    assert "is no export of secrets" in ran.err
    no_database = await run(shell, "drill", str(tmp_path / "secrets.age"), *keys(tmp_path))
    assert no_database.code == 1
    assert "there is no database to talk to" in no_database.err
