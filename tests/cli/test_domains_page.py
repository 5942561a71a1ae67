"""docs/domains.md: every command on it runs as it stands, in its order, beside an operator who publishes the records."""

import json
import os
import re
import sys
from pathlib import Path

import anyio
import pytest

from email_gateway.mail.domains import Shown
from email_gateway.store.database import Database
from email_gateway.store.domains import list_domains
from email_gateway.store.pages import Page
from tests.conftest import KEY, SALT
from tests.dns_server import DnsServer, publish

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "domains.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^\| ([a-z]+) \| ", PAGE.read_text().partition("| shown |")[2].partition("\n\n")[0], re.MULTILINE)


async def run(command: str, database_url: str, dns: DnsServer, *, code: int = 0) -> str:
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATABASE_URL": database_url,
        "DNS_RESOLVERS": dns.address,
        "ENCRYPTION_KEY": KEY,
        "ENCRYPTION_SALT": SALT,
        "ADMIN_API_KEY": "an-admin-key-for-tests-of-forty-characters",
    }
    done = await anyio.run_process(["/bin/sh", "-eu", "-c", command], env=environ, check=False)
    assert done.returncode == code, f"{command}{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode() + done.stderr.decode()


async def test_every_command_of_the_page_runs(database_url: str, db: Database) -> None:
    told = ""
    async with DnsServer() as dns:
        for block in BLOCKS:
            if "verify" in block:
                for domain in (await list_domains(db, None, Page()))[0]:
                    publish(dns, domain)
            told += await run(block, database_url, dns)
    for words in (
        "acme.example: pending",
        "v=DKIM1; k=rsa; p=",
        "v=DKIM1; k=ed25519; p=",
        "acme.example: verified",
        "The older keys sign until",
        "retiring, publish it until",
        "removed acme.example",
    ):
        assert words in told
    assert await list_domains(db, None, Page()) == ([], False)


async def test_each_trouble_has_an_exit_code_and_a_next_step(database_url: str, db: Database) -> None:
    async with DnsServer() as dns:

        async def told(command: str, code: int) -> str:
            return await run(f"email-gateway domains {command}", database_url, dns, code=code)

        assert "no tenant of this name" in await told("add acme.example --tenant billing", 1)
        await run("email-gateway tenants create billing", database_url, dns)
        assert "name a domain that you send from" in " ".join((await told("add acme --tenant billing", 2)).split())
        await told("add acme.example --tenant billing", 0)
        assert "has this domain already" in await told("add acme.example --tenant billing", 1)
        unknown = "add acme.example --tenant 00000000-0000-7000-8000-000000000000"
        assert "no such tenant" in await told(unknown, 1)
        assert "no such domain" in await told("show other.example --tenant billing", 1)
        assert "wait to be published" in await told("rotate acme.example --tenant billing", 1)
        assert "missing" in await told("verify acme.example --tenant billing", 1)
        ((domain,), _) = await list_domains(db, None, Page())
        dns.failing |= {f"{key.selector}._domainkey.acme.example" for key in domain.keys}
        assert "DNS_RESOLVERS" in await told("verify acme.example --tenant billing", 1)


async def test_machines_are_told_in_json(database_url: str) -> None:
    async with DnsServer() as dns:
        await run("email-gateway tenants create billing", database_url, dns)
        made = json.loads(
            await run("email-gateway domains add acme.example --tenant billing --json", database_url, dns)
        )
        for key in made["keys"]:
            dns.texts[key["record_name"]] = [key["record_value"]]
        seen = json.loads(
            await run("email-gateway domains verify acme.example --tenant billing --json", database_url, dns)
        )
        assert (seen["domain"]["state"], {record["shown"] for record in seen["records"]}) == ("verified", {"right"})
        listed = json.loads(await run("email-gateway domains list --tenant billing --json", database_url, dns))
        assert listed == {"domains": [seen["domain"]]}
        removed = json.loads(
            await run("email-gateway domains remove acme.example --tenant billing --json", database_url, dns)
        )
        assert removed == {"id": made["id"], "deleted": True}


def test_the_page_explains_everything_that_may_be_shown() -> None:
    assert list(Shown) == SHOWN
