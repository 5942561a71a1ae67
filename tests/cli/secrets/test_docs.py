"""Every command of docs/secrets.md runs as it stands there, in its order, and prints what stands below it."""

import asyncio
import re
import shlex
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from email_gateway.store.database import Database
from tests.api.conftest import served_from_secrets_manager
from tests.cli.secrets.conftest import Shell
from tests.cli.secrets.exports import IDENTITY, RECIPIENT
from tests.cli.secrets.test_audit import ADMIN, GATEWAY, Trail
from tests.cli.secrets.test_drill import seal_mail
from tests.pages.console import read_steps, words
from tests.plugins.secrets_manager import Aws

pytestmark = pytest.mark.anyio

PAGE = Path("docs/secrets.md")
PREFIX = "email-gateway"
ELSEWHERE = "eu-central-1"  # where the page restores an export
COMMAND = re.compile(r"(?P<environ>[A-Z_]+=\S+ )?email-gateway secrets (?P<words>.+)", re.DOTALL)


@pytest.fixture
def page() -> str:
    return PAGE.read_text()


@pytest.fixture
def documented(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shell]:
    """A shell on an account without anything under the usual prefix, which is left as empty as it was."""
    account = Shell(shell.client, shell.kms, shell.proxy, shell.url, prefix=PREFIX)
    monkeypatch.setenv("SECRETS_PREFIX", PREFIX)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipients.txt").write_text(f"{RECIPIENT}\n")
    (tmp_path / "key.txt").write_text(f"{IDENTITY}\n")
    (tmp_path / "smtp-url.txt").write_text("smtp://user:MARK-password@mail.example.com:587\n")
    trail = Trail(account)
    for hours in (1, 2, 3):
        trail.add("GetSecretValue", hours, {"arn": GATEWAY}, requestParameters={"secretId": f"{PREFIX}/encryption-key"})
    trail.add("PutSecretValue", 5, {"arn": ADMIN}, requestParameters={"secretId": f"{PREFIX}/encryption-key"})
    trail.add("DeleteSecret", 6, {"arn": ADMIN}, requestParameters={"secretId": f"{PREFIX}/encryption-salt"},
              errorCode="AccessDenied")  # fmt: skip
    yield account
    for service in ("secretsmanager", "kms"):
        get_backend(service)[DEFAULT_ACCOUNT_ID][ELSEWHERE].reset()
    for name in account.kept():
        account.client.delete_secret(SecretId=f"{PREFIX}/{name}", ForceDeleteWithoutRecovery=True)
    account.kms.delete_alias(AliasName=account.alias)


async def test_the_page_shows_what_its_commands_print(
    page: str, documented: Shell, db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    monkeypatch.setenv("DATABASE_URL", database_url)
    async with AsyncExitStack() as stack:
        for step in read_steps(page):
            block = COMMAND.fullmatch(step.command)
            assert block, step.command
            command = shlex.split(block["words"].replace("\\\n", ""))
            if command[0] == "refresh":
                aws = Aws(documented.client, documented.proxy, documented.url, prefix=PREFIX)
                served = await stack.enter_async_context(served_from_secrets_manager(aws, db))
                monkeypatch.setenv("API_PORT", str(urlsplit(served.url).port))
            if command[0] == "drill":
                await seal_mail(db, served.context.keyring, served.acme)
            with monkeypatch.context() as patch:
                if block["environ"]:
                    patch.setenv(*block["environ"].strip().split("="))
                done = await asyncio.to_thread(documented.run, *command)
            assert done.code == 0, done
            ran.append(command[0])
            # Versions are listed by their labels, events by their time.
            assert sorted(words(done.out)) == sorted(words(step.output)), step.command
    assert set(ran) == {
        "init", "set", "verify", "rotate", "refresh", "rollback", "status", "export", "drill", "restore", "audit", "cost",
    }  # fmt: skip
