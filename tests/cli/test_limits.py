"""`email-gateway limits`, each as the process that a person starts."""

import json
import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import anyio
import pytest

from email_gateway.store.accepting import Acceptor
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.quotas import Allowance, find_allowances
from tests.makers import new_request

pytestmark = pytest.mark.anyio


class Command:
    """Runs `email-gateway limits ...`."""

    def __init__(self, database_url: str) -> None:
        self._environ = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "KEY_RATE": "7"}

    async def run(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-P", "-m", "email_gateway.cli", "limits", *arguments]
        done = await anyio.run_process(command, env=self._environ, check=False)
        assert done.returncode == code, done.stderr.decode()
        return done

    async def told(self, *arguments: str) -> Any:
        return json.loads((await self.run(*arguments, "--json")).stdout)


async def test_limits_are_chosen_kept_and_taken_back_with_an_audit_row(
    db: Database, database_url: str, tenant_id: UUID
) -> None:
    command = Command(database_url)
    await command.told("set", "--tenant", "acme", "--daily-quota", "50", "--key-rate", "0")
    chosen = await command.told("set", "--tenant", str(tenant_id), "--monthly-quota", "900")
    assert chosen["chosen"] == {"key_rate": 0, "key_burst": None, "daily_quota": 50, "monthly_quota": 900}
    assert await find_allowances(db, [tenant_id]) == {tenant_id: Allowance(0, None, 50, 900)}
    await Acceptor(db).accept(new_request(tenant_id))
    shown = await command.told("show", "--tenant", "acme")
    assert (shown["defaults"]["key_rate"], shown["use"]["today"], shown["use"]["this_month"]) == (7, 1, 1)
    assert b"no limit" in (await command.run("show", "--tenant", "acme")).stdout
    await command.run("set", "--tenant", "acme", "--as-settings", "--key-burst", "3")
    assert await find_allowances(db, [tenant_id]) == {tenant_id: Allowance(None, 3, None, None)}
    assert [entry.action for entry in await list_audit(db)] == ["limits.set"] * 3


async def test_nothing_to_set_is_wrong_usage_and_an_unknown_tenant_fails(database_url: str, tenant_id: UUID) -> None:
    command = Command(database_url)
    await command.run("set", "--tenant", "acme", code=2)
    for act in (("show",), ("set", "--key-rate", "1")):
        assert b"no tenant" in (await command.run(*act, "--tenant", "nobody", code=1)).stderr
