"""`email-gateway tenants`, as the process that a person starts; and docs/tenants.md, every command as it stands."""

import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from email_gateway.api import ApiContext
from email_gateway.store.accounts import find_account, get_generation, hash_api_key
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from tests.api.conftest import context_over
from tests.api.house import ADMIN_KEY, serving
from tests.cli.test_commands import run, told

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "tenants.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_a_tenant_is_shown_renamed_suspended_and_resumed(database_url: str, db: Database) -> None:
    made = await told("tenants", "create", "billing", DATABASE_URL=database_url)
    before = await get_generation(db)
    renamed = await told("tenants", "rename", "billing", "invoices", DATABASE_URL=database_url)
    assert renamed["tenant"] == {**made["tenant"], "name": "invoices"}
    suspended = await run("tenants", "suspend", "invoices", "--reason", "ticket 7", DATABASE_URL=database_url)
    assert b"suspended invoices" in suspended.stdout
    account = await find_account(db, hash_api_key(made["api_key"]))
    assert account is not None
    assert account.is_suspended
    shown = await run("tenants", "show", "invoices", DATABASE_URL=database_url)
    assert b"none of its keys opens anything" in shown.stdout
    assert b"keys     1;" in shown.stdout
    resumed = await told("tenants", "resume", "invoices", DATABASE_URL=database_url)
    assert resumed["tenant"]["suspended_at"] is None
    assert await get_generation(db) == before + 2, "every process looks the keys up again"
    acts = [(one.action, one.reason) for one in await list_audit(db)][:3]
    assert acts == [("tenant.resumed", None), ("tenant.suspended", "ticket 7"), ("tenant.renamed", None)]


async def test_a_key_is_rotated_with_an_overlap(database_url: str, db: Database) -> None:
    made = await told("tenants", "create", "billing", DATABASE_URL=database_url)
    rotated = await told(
        "tenants", "keys", "rotate", "billing", made["key"]["prefix"], "--overlap-hours", "1", DATABASE_URL=database_url
    )
    for secret in (made["api_key"], rotated["api_key"]):
        assert await find_account(db, hash_api_key(secret)) is not None
    assert rotated["replaced"]["replaced_by"] == rotated["key"]["api_key_id"]
    again = await run("tenants", "keys", "rotate", "billing", made["key"]["prefix"], DATABASE_URL=database_url)
    assert (again.returncode, b"another was made in its place" in again.stderr) == (1, True)
    people = await run(
        "tenants", "keys", "rotate", "billing", rotated["key"]["api_key_id"], "--overlap-hours", "0",
        DATABASE_URL=database_url,
    )  # fmt: skip
    assert f"replaces {rotated['key']['prefix']}, which opens until".encode() in people.stdout
    assert await find_account(db, hash_api_key(rotated["api_key"])) is None
    listed = await run("tenants", "keys", "list", "billing", DATABASE_URL=database_url)
    assert listed.stdout.decode().count(rotated["key"]["prefix"]) == 2, "itself, and as what replaced the first"
    assert rotated["api_key"] not in listed.stdout.decode()


async def test_a_key_of_a_domain_is_made_for_sending_alone(database_url: str) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    create = ("tenants", "keys", "create", "billing", "--domain")
    made = await told(*create, "ACME.example", "--sending-only", DATABASE_URL=database_url)
    assert (made["key"]["sender_domain"], made["key"]["scopes"]) == ("acme.example", ["sending_access"])
    for wrong in (("acme.example",), ("no domain", "--sending-only")):
        assert (await run(*create, *wrong, DATABASE_URL=database_url)).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nobody"),
        ("rename", "nobody", "somebody"),
        ("suspend", "nobody"),
        ("resume", "nobody"),
        ("keys", "rotate", "billing", "eg_00000000"),
        ("keys", "rotate", "nobody", "eg_00000000"),
    ],
)
async def test_what_is_not_there_says_how_to_list_what_is(database_url: str, arguments: tuple[str, ...]) -> None:
    await told("tenants", "create", "billing", DATABASE_URL=database_url)
    done = await run("tenants", *arguments, DATABASE_URL=database_url)
    assert done.returncode == 1
    assert b"next:  `email-gateway tenants" in done.stderr


async def test_a_name_that_is_taken_is_refused(database_url: str) -> None:
    for name in ("billing", "shop"):
        await told("tenants", "create", name, DATABASE_URL=database_url)
    done = await run("tenants", "rename", "billing", "shop", DATABASE_URL=database_url)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    assert b"a tenant of this name exists" in done.stderr


@pytest.fixture
async def context(db: Database) -> AsyncIterator[ApiContext]:
    async with context_over(db) as context:
        yield context


@pytest.mark.needs("curl")
async def test_every_command_of_the_page_runs_as_it_stands(database_url: str, context: ApiContext) -> None:
    async with serving(context) as url:
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": database_url,
            "GATEWAY": url,
            "ADMIN_KEY": ADMIN_KEY,
        }
        script = "".join(f"{block}echo END-OF-BLOCK\n" for block in BLOCKS)
        done = await anyio.run_process(["/bin/sh", "-eu", "-c", script], env=environ, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = done.stdout.decode()
    assert told.count("END-OF-BLOCK") == len(BLOCKS) > 5
    for words in ("renamed  billing to invoices", "suspended billing", "replaces eg_", "revoked eg_", '"name":"shop"'):
        assert words in told
    tenants = {row["name"]: row["suspended_at"] for row in await context.db.fetch("SELECT * FROM tenant")}
    assert tenants == {"billing": None, "shop": None}
    assert not await context.db.fetch("SELECT FROM pace"), "nothing is held"
