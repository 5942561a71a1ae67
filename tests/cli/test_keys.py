"""The commands that change keys, each as the process that a person starts, on a database with sealed mail."""

import json
import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import anyio
import pytest

from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from tests.conftest import KEY, SALT
from tests.plugins.marks import session_watch
from tests.rekeying.process import Process

pytestmark = pytest.mark.anyio

KEYS = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "an-admin-key-for-tests-of-forty-characters"}


class Command:
    """Runs `email-gateway keys ...` against one database."""

    def __init__(self, database_url: str) -> None:
        self._environ = {"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", "DATABASE_URL": database_url, **KEYS}

    async def run(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-P", "-m", "email_gateway.cli", "keys", *arguments]
        done = await anyio.run_process(command, env=self._environ, check=False)
        session_watch().keep("commands.log", (done.stderr + done.stdout).decode(errors="replace"))
        assert done.returncode == code, done.stderr.decode()
        return done

    async def told(self, *arguments: str, code: int = 0) -> Any:
        return json.loads((await self.run(*arguments, "--json", code=code)).stdout)


@pytest.fixture
def keys(database_url: str) -> Command:
    return Command(database_url)


@pytest.fixture
async def process(db: Database, tenant_id: UUID) -> Process:
    """A process that has accepted three messages of `acme`."""
    process = await Process.start(db)
    for number in range(3):
        await process.accept(tenant_id, number)
    return process


async def acts(db: Database) -> list[str]:
    return [entry.action for entry in reversed(await list_audit(db))]


async def test_renewed_and_resealed_values_are_under_the_key_that_was_told(
    db: Database, keys: Command, process: Process, tenant_id: UUID
) -> None:
    renewed = await keys.told("renew", "--tenant", "acme")
    resealed = await keys.told("reseal", "--tenant", "acme", "--rate", "0")
    assert {each["relation"]: each["counts"] for each in resealed["resealed"]} == {
        "message": {"moved": 6, "skipped": 0, "unreadable": 0},
        "attachment": {"moved": 0, "skipped": 0, "unreadable": 0},
        "event": {"moved": 0, "skipped": 0, "unreadable": 0},
        "inbox_mail": {"moved": 0, "skipped": 0, "unreadable": 0},
        "dkim_key": {"moved": 0, "skipped": 0, "unreadable": 0},
        "template_version": {"moved": 0, "skipped": 0, "unreadable": 0},
        "webhook": {"moved": 0, "skipped": 0, "unreadable": 0},
        "webhook_delivery": {"moved": 0, "skipped": 0, "unreadable": 0},
        "suppression": {"moved": 0, "skipped": 0, "unreadable": 0},
    }
    rows = await db.fetch("SELECT sealed_content FROM message")
    assert {row["sealed_content"][2:18].hex() for row in rows} == {renewed["renewed"][0]["key_id"]}
    assert await acts(db) == ["field_key.renewed", "values.resealed"]
    assert await process.count_about(tenant_id, 1) == (1, 1, 3)


async def test_all_tenants_are_renewed_and_shown_by_name(db: Database, keys: Command, process: Process) -> None:
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES (gen_random_uuid(), 'other')")
    told = (await keys.run("renew", "--all")).stdout.decode()
    assert "acme" in told
    assert "other" in told
    told = (await keys.run("reseal", "--all")).stdout.decode()
    assert "attachment" in told


@pytest.mark.usefixtures("process")
async def test_a_value_that_does_not_open_is_named_and_exits_1(db: Database, keys: Command) -> None:
    (row,) = await db.fetch(
        "UPDATE message SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
        " WHERE message_id = (SELECT min(message_id::text)::uuid FROM message) RETURNING message_id"
    )
    await keys.run("renew", "--tenant", "acme")
    told = await keys.told("reseal", "--tenant", "acme", code=1)
    assert told["resealed"][0]["unreadable"] == [str(row["message_id"])]
    again = await keys.run("reseal", "--tenant", "acme", code=1)
    assert f"does not open: message {row['message_id']} of acme" in again.stdout.decode()


@pytest.mark.usefixtures("process")
async def test_an_unknown_tenant_is_refused_with_the_next_step(keys: Command) -> None:
    for command in (("renew",), ("reseal",), ("index", "rotate"), ("index", "drop")):
        done = await keys.run(*command, "--tenant", "nobody", code=1)
        assert b"next:  `email-gateway tenants list`" in done.stderr


async def test_an_index_key_is_rotated_shown_and_dropped(
    db: Database, keys: Command, process: Process, tenant_id: UUID
) -> None:
    before = (await process.keyring.tenant(tenant_id)).index_key_id.hex()
    rotated = await keys.told("index", "rotate", "--tenant", "acme")
    assert rotated["outgoing"] == before
    status = await keys.told("status")
    assert [(one["tenant"], one["key_id"], one["state"]) for one in status["index_rotations"]] == [
        ("acme", rotated["active"], "active"),
        ("acme", before, "decrypt_only"),
    ]
    assert b"keys index drop" in (await keys.run("status")).stdout
    assert b"keys index drop --tenant acme" in (await keys.run("index", "rotate", "--tenant", "acme")).stdout
    early = await keys.run("index", "drop", "--tenant", "acme", code=1)
    assert b"24 hours" in early.stderr

    await db.execute("UPDATE crypto_key SET activated_at = now() - interval '2 days' WHERE state = 'active'")
    assert (await keys.told("index", "drop", "--tenant", "acme"))["deleted"] == 9
    assert (await keys.told("status"))["index_rotations"] == []
    await process.keyring.reload()
    assert await process.count_about(tenant_id, 1) == (1, 1, 3)
    assert await acts(db) == ["index_key.added", "index_key.switched", "index_key.destroyed"]


async def test_a_process_that_does_not_follow_stops_the_rotation_by_name(
    keys: Command, process: Process, tenant_id: UUID
) -> None:
    await process.follow()
    stopped = await keys.run("index", "rotate", "--tenant", "acme", "--wait", "0", code=1)
    assert b"api 4711 on test-host" in stopped.stderr
    status = await keys.run("status")
    assert b"being copied" in status.stdout
    await process.follow()
    await keys.run("index", "rotate", "--tenant", "acme", "--wait", "0", code=1)
    await process.follow()
    await keys.told("index", "rotate", "--tenant", "acme", "--wait", "0")
