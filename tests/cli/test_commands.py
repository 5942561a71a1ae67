"""The commands that talk to the database, each as the process that a person starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from email_gateway.store.accounts import find_account, hash_api_key
from email_gateway.store.database import Database
from email_gateway.store.sessions import redeem_login_link
from email_gateway.up.home import Home, Runtime
from email_gateway.vault.keyring import Keyring
from tests.plugins.marks import session_watch

pytestmark = pytest.mark.anyio


async def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with nothing in its environment but what is given."""
    command = [sys.executable, "-P", "-m", "email_gateway.cli", *arguments]
    environ = {"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", **environ}
    done = await anyio.run_process(command, env=environ, check=False)
    session_watch().keep("commands.log", done.stderr.decode(errors="replace"))
    return done


async def told(*arguments: str, **environ: str) -> Any:
    """Run a command that must succeed and return its JSON."""
    done = await run(*arguments, "--json", **environ)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


async def test_migrate_names_what_it_applied_and_then_has_nothing_to_do(postgres_url: str) -> None:
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute("CREATE DATABASE cli_migrate")
    url = postgres_url.rsplit("/", 1)[0] + "/cli_migrate"
    try:
        first = await told("migrate", DATABASE_URL=url)
        second = await run("migrate", DATABASE_URL=url)
    finally:
        await server.execute("DROP DATABASE cli_migrate WITH (FORCE)")
        await server.close()
    assert first["applied"][0].startswith("0001_")
    assert b"nothing to apply" in second.stdout


async def test_a_new_tenant_comes_with_a_key_that_works(database_url: str, db: Database) -> None:
    made = await told("tenants", "create", "billing", DATABASE_URL=database_url)
    account = await find_account(db, hash_api_key(made["api_key"]))
    assert account is not None
    assert str(account.tenant_id) == made["tenant"]["tenant_id"]
    assert [tenant["name"] for tenant in (await told("tenants", "list", DATABASE_URL=database_url))["tenants"]] == [
        "billing"
    ]


async def test_a_taken_name_is_refused_without_a_traceback(database_url: str) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    again = await run("tenants", "create", "billing", DATABASE_URL=database_url)
    assert again.returncode == 1
    assert again.stderr.startswith(b"error: ")
    assert b"Traceback" not in again.stderr


async def test_a_key_is_shown_once_and_listed_by_its_prefix(database_url: str) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    made = await run(
        "tenants", "keys", "create", "billing", "--name", "invoices", "--sending-only", "--network", "10.0.0.0/8",
        "--expires-days", "30", DATABASE_URL=database_url,
    )  # fmt: skip
    secret = made.stdout.decode().split()[2]
    listed = await run("tenants", "keys", "list", "billing", DATABASE_URL=database_url)

    assert secret.startswith("eg_")
    assert secret not in listed.stdout.decode()
    for shown in (secret.rsplit("_", 1)[0][:11], "invoices", "sending_access", "10.0.0.0/8"):
        assert shown in listed.stdout.decode()


async def test_a_revoked_key_ends(database_url: str, db: Database) -> None:
    made = await told("tenants", "create", "billing", DATABASE_URL=database_url)
    done = await run("tenants", "keys", "revoke", "billing", made["key"]["prefix"], DATABASE_URL=database_url)
    assert done.returncode == 0
    assert await find_account(db, hash_api_key(made["api_key"])) is None


async def test_an_unknown_tenant_or_key_says_how_to_list_them(database_url: str) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    for arguments in (("keys", "list", "nobody"), ("keys", "revoke", "billing", "eg_00000000")):
        done = await run("tenants", *arguments, DATABASE_URL=database_url)
        assert done.returncode == 1
        assert b"next:  `email-gateway tenants" in done.stderr


async def test_status_counts_and_finds_the_api_away(database_url: str) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    status = await told("status", DATABASE_URL=database_url, API_PORT="9")
    assert status["health"] == {"status": "unreachable"}
    assert status["queue"] == {"due": 0, "oldest_due_for": None, "next_due_at": None}
    assert [(one["name"], one["accepted"], one["difference"]) for one in status["tenants"]] == [("billing", 0, 0)]
    assert set(status["tenants"][0]["states"]) >= {"queued", "delivered", "dead"}

    people = await run("status", DATABASE_URL=database_url, API_PORT="9")
    assert b"unreachable" in people.stdout
    assert b"billing" in people.stdout


async def test_status_compares_its_running_totals_with_a_recount(
    database_url: str, db: Database, tenant_id: Any
) -> None:
    assert await told("status", "--recount", DATABASE_URL=database_url) == {"off_by": {}}
    assert b"every running total" in (await run("status", "--recount", DATABASE_URL=database_url)).stdout
    await db.execute("INSERT INTO tally (tenant_id, state, amount) VALUES ($1, 'dead', -2)", tenant_id)
    for options in ((), ("--json",)):
        off = await run("status", "--recount", *options, DATABASE_URL=database_url)
        assert off.returncode == 1
        assert b"acme" in off.stdout


async def test_keys_status_names_roots_and_counts_data_keys(
    database_url: str, keyring: Keyring, tenant_id: Any
) -> None:
    await keyring.tenant(tenant_id)
    status = await told("keys", "status", DATABASE_URL=database_url)
    assert [(root["root_id"], root["state"], root["wraps"]) for root in status["roots"]] == [
        (keyring.roots.ids[0].hex(), "active", 2)
    ]
    assert status["live_keys"] == 2
    assert {key["purpose"] for key in status["data_keys"]} == {"field", "index"}

    people = await run("keys", "status", DATABASE_URL=database_url)
    assert keyring.roots.ids[0].hex().encode() in people.stdout


async def test_login_prints_a_link_that_works_once(database_url: str, db: Database) -> None:
    done = await run("login", DATABASE_URL=database_url)
    link, _, token = done.stdout.decode().strip().partition("#token=")
    assert link == "http://127.0.0.1:8025/dashboard/login"
    assert await redeem_login_link(db, token) is not None
    assert await redeem_login_link(db, token) is None


async def test_a_named_home_that_runs_goes_before_the_environment(tmp_path: Path, database_url: str) -> None:
    home = Home(tmp_path)
    with home.held():
        home.publish(Runtime(1, "http://127.0.0.1:9/v1", database_url))
        link = await told("login", "--home", str(tmp_path), DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    assert link["login_url"].startswith("http://127.0.0.1:9/dashboard")


async def test_without_a_database_the_command_says_where_it_looked(tmp_path: Path) -> None:
    done = await run("status", "--home", str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr.decode()
    assert b"email-gateway up" in done.stderr


async def test_a_database_that_is_away_exits_1_with_a_next_step() -> None:
    done = await run("tenants", "list", DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    assert done.returncode == 1
    assert b"next:" in done.stderr


async def test_wrong_settings_exit_78_listing_each() -> None:
    done = await run("worker", API_PORT="none", TRANSPORT="pigeon")
    assert done.returncode == 78
    for name in (b"API_PORT", b"TRANSPORT", b"ENCRYPTION_KEY", b"ADMIN_API_KEY"):
        assert name in done.stderr
    assert b"pigeon" not in done.stderr


async def test_sending_without_a_key_says_where_keys_come_from(tmp_path: Path) -> None:
    done = await run("send", "--to", "ana@example.net", "--home", str(tmp_path))
    assert done.returncode == 1
    assert b"--api-key" in done.stderr


async def test_migrate_takes_the_owners_url_from_a_file_and_shows_nothing_of_a_wrong_one(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "owner.url"
    file.write_text(f"{database_url}\n")
    elsewhere = "postgresql://nobody:MARK-elsewhere@127.0.0.1:1/nowhere"
    assert await told("migrate", "--url-file", str(file), DATABASE_URL=elsewhere) == {"applied": []}
    file.write_text("MARK-no-url")
    refused = await run("migrate", "--url-file", str(file))
    assert refused.returncode == 1
    assert b"must look like postgresql://" in refused.stderr
    assert b"MARK" not in refused.stderr
