"""`email-gateway suppressions`, each as the process that a person starts."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest

from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from tests.conftest import KEY, SALT
from tests.marks import MARK

pytestmark = pytest.mark.anyio

KEYS = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "an-admin-key-for-tests-of-forty-characters"}
ADDRESS = f"{MARK}@example.net"


class Command:
    """Runs `email-gateway suppressions ...` for the tenant acme."""

    def __init__(self, database_url: str) -> None:
        self._environ = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **KEYS}

    async def run(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-P", "-m", "email_gateway.cli", "suppressions", *arguments, "--tenant", "acme"]
        done = await anyio.run_process(command, env=self._environ, check=False, input=stdin)
        assert done.returncode == code, done.stderr.decode()
        return done

    async def told(self, *arguments: str, stdin: bytes = b"") -> Any:
        return json.loads((await self.run(*arguments, "--json", stdin=stdin)).stdout)


@pytest.fixture
def command(database_url: str, tenant_id: UUID) -> Command:
    return Command(database_url)


async def test_an_address_is_added_shown_and_removed_with_an_audit_row_for_each(db: Database, command: Command) -> None:
    added = await command.told("add", ADDRESS, "--reason", "unsubscribe", "--note", "letter", "--days", "30")
    assert added["is_new"]
    again = await command.told("add", ADDRESS.upper())
    assert (again["id"], again["is_new"]) == (added["id"], False)
    shown = await command.told("show", ADDRESS.upper())
    assert (shown["address"], shown["reason"], shown["note"]) == (ADDRESS, "unsubscribe", "letter")
    assert ADDRESS in (await command.run("show", ADDRESS)).stdout.decode()
    assert "removed" in (await command.run("remove", ADDRESS)).stdout.decode()
    for act in ("show", "remove"):
        assert b"not suppressed" in (await command.run(act, ADDRESS, code=1)).stderr
    acts = [entry.action.removeprefix("suppression.") for entry in reversed(await list_audit(db))]
    assert acts == ["added", "added", "shown", "shown", "removed"]


async def test_what_is_no_address_or_no_note_is_refused_without_being_repeated(command: Command) -> None:
    refused = await command.run("add", f"{MARK} nowhere", code=1)
    assert MARK.encode() not in refused.stderr + refused.stdout
    assert b"one line" in (await command.run("add", ADDRESS, "--note", "x" * 201, code=1)).stderr


async def test_a_list_is_imported_twice_to_the_same_end_and_exported_to_be_imported_elsewhere(
    db: Database, command: Command, tmp_path: Path
) -> None:
    source, file = uuid4(), tmp_path / "list.csv"
    lines = [f"{n}@example.net,,,," for n in range(1_200)]
    lines += [f"{ADDRESS},complaint,{source},ticket 4,2099-01-31T00:00:00+00:00", f"{ADDRESS.upper()},,,,"]
    file.write_text("\ufeffemail,reason,source_id,note,expires_at,name\n" + "\n".join(lines) + "\n", "utf-8")
    imported = await command.told("import", str(file), "--reason", "bounce")
    assert imported == {"read": 1_202, "added": 1_201}
    assert "0 added" in (await command.run("import", str(file))).stdout.decode()

    exported = (await command.run("export")).stdout
    rows = list(csv.DictReader(io.StringIO(exported.decode())))
    assert len(rows) == 1_201
    (row,) = [row for row in rows if row["email"] == ADDRESS]
    assert (row["reason"], row["source_id"], row["note"]) == ("complaint", str(source), "ticket 4")
    # The second line of it came without an end, which is longer.
    assert row["expires_at"] == ""
    complaints = (await command.run("export", "--reason", "complaint", "--json")).stdout.decode().splitlines()
    assert [json.loads(line)["address"] for line in complaints] == [ADDRESS]

    await db.execute("DELETE FROM suppression")
    assert await command.told("import", "-", stdin=exported) == {"read": 1_201, "added": 1_201}
    again = list(csv.DictReader(io.StringIO((await command.run("export")).stdout.decode())))
    assert {(row["email"], row["reason"], row["note"]) for row in again} == {
        (row["email"], row["reason"], row["note"]) for row in rows
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"address\n{ADDRESS}\n", b"no column `email`"),
        (f"email\n{ADDRESS}\n{MARK}\n", b"line 3"),
        (f"email,reason\n{ADDRESS},boredom {MARK}\n", b"as reason"),
        (f"email,source_id\n{ADDRESS},{MARK}\n", b"line 2"),
        (f"email,expires_at\n{ADDRESS},2099-01-31\n", b"offset"),
        (f"email,note\n{ADDRESS},{'x' * 201}\n", b"one line"),
    ],
)
async def test_a_wrong_line_is_named_by_its_number_and_nothing_is_written(
    db: Database, command: Command, tmp_path: Path, text: str, said: bytes
) -> None:
    (tmp_path / "list.csv").write_text(text)
    refused = await command.run("import", str(tmp_path / "list.csv"), code=1)
    assert said in refused.stderr
    assert MARK.encode() not in refused.stderr + refused.stdout
    assert not await db.fetch("SELECT FROM suppression")


async def test_a_file_that_cannot_be_read_is_refused(command: Command, tmp_path: Path) -> None:
    assert b"cannot be read" in (await command.run("import", str(tmp_path / "none.csv"), code=1)).stderr
    (tmp_path / "list.csv").write_bytes(b"email\n\xff\xfe@example.net\n")
    assert b"no CSV in UTF-8" in (await command.run("import", str(tmp_path / "list.csv"), code=1)).stderr
