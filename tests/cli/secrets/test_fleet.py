"""`secrets refresh` and `status` on a running gateway whose secrets are in Secrets Manager."""

import asyncio
from pathlib import Path

import pytest

from email_gateway.secrets import SecretsService
from tests.api.house import Served
from tests.cli.secrets.conftest import Ran, Shell
from tests.fault_proxy import Fault
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio


def service_of(served: Served) -> SecretsService:
    assert isinstance(served.context.secrets, SecretsService)
    return served.context.secrets


async def run(shell: Shell, served: Served, *arguments: str, stdin: str = "") -> Ran:
    """Run a command beside the gateway, which lives in this process too."""
    url = () if "--url" in arguments else ("--url", served.url)
    return await asyncio.to_thread(lambda: shell.run(*arguments, *url, stdin=stdin))


async def test_status_shows_what_each_process_holds(aws: Aws, rotating: Served, shell_of_fleet: Shell) -> None:
    ran = await run(shell_of_fleet, rotating, "status")
    assert ran.code == 0, ran
    assert aws.versions["encryption-key"] in ran.out
    assert " all " in ran.out
    assert "api" in ran.out
    told = (await run(shell_of_fleet, rotating, "status", "--json")).told
    (process,) = told["instances"]
    assert process["versions"]["encryption-key"] == aws.versions["encryption-key"]


async def test_status_fails_while_a_secret_cannot_be_read(aws: Aws, rotating: Served, shell_of_fleet: Shell) -> None:
    aws.proxy.faults["encryption-salt"] = Fault.DENIED
    await service_of(rotating).refresh()
    ran = await run(shell_of_fleet, rotating, "status")
    assert ran.code == 1
    assert "denied" in ran.out


async def test_after_a_rotation_every_process_follows_and_says_so(rotating: Served, shell_of_fleet: Shell) -> None:
    changed = await run(shell_of_fleet, rotating, "status")
    assert changed.code == 0
    made = await asyncio.to_thread(lambda: shell_of_fleet.run("rotate", "encryption-key", "--json"))
    ran = await run(shell_of_fleet, rotating, "refresh")
    assert ran.code == 0
    assert "every process has followed" in ran.out
    assert made.told["version_id"] in ran.out
    again = await run(shell_of_fleet, rotating, "refresh")
    assert again.code == 1
    assert "429" in again.err
    assert service_of(rotating).get("encryption-key").version_id == made.told["version_id"]


async def test_an_admin_key_that_the_gateway_has_not_read_yet_still_refreshes_it(
    aws: Aws, rotating: Served, shell_of_fleet: Shell
) -> None:
    await asyncio.to_thread(lambda: shell_of_fleet.run("rotate", "admin-api-key"))
    ran = await run(shell_of_fleet, rotating, "refresh", "--json")
    assert ran.code == 0
    assert ran.told["complete"] is True
    assert service_of(rotating).get("admin-api-key").version_id != aws.versions["admin-api-key"]


async def test_where_the_current_admin_key_is_none_the_one_before_is_used(
    aws: Aws, rotating: Served, shell_of_fleet: Shell
) -> None:
    aws.put("admin-api-key", '{"admin-api-key": "MARK-wrapped"}')
    ran = await run(shell_of_fleet, rotating, "refresh")
    assert ran.code == 1  # it followed in all but this secret
    assert "not every process has followed" in ran.out
    assert "admin-api-key: malformed" in ran.out


async def test_revoking_names_the_versions_that_ended(aws: Aws, rotating: Served, shell_of_fleet: Shell) -> None:
    await asyncio.to_thread(lambda: shell_of_fleet.run("rotate", "admin-api-key"))
    await run(shell_of_fleet, rotating, "refresh")
    ran = await run(shell_of_fleet, rotating, "refresh", "--revoke-previous")
    assert ran.code == 0
    assert f"ended admin keys: {aws.versions['admin-api-key']}" in ran.out
    assert not service_of(rotating).admin_key_matches(VALUES["admin-api-key"])


async def test_the_admin_key_may_come_from_a_file(
    rotating: Served, shell_of_fleet: Shell, tmp_path: Path, aws: Aws
) -> None:
    asked = len(aws.proxy.requests)
    file = tmp_path / "admin.txt"
    file.write_text(VALUES["admin-api-key"] + "\n")
    assert (await run(shell_of_fleet, rotating, "status", "--admin-key-file", str(file))).code == 0
    assert len(aws.proxy.requests) == asked
    file.write_text("MARK-a-wrong-admin-key-0123456789-0123456789")
    ran = await run(shell_of_fleet, rotating, "status", "--admin-key-file", str(file))
    assert ran.code == 1
    assert "--admin-key-file" in ran.err


async def test_without_secrets_manager_the_key_of_the_environment_is_used(
    rotating: Served, shell_of_fleet: Shell, monkeypatch: pytest.MonkeyPatch, aws: Aws
) -> None:
    asked = len(aws.proxy.requests)
    for name, value in VALUES.items():
        monkeypatch.setenv(name.upper().replace("-", "_"), value)
    assert (await run(shell_of_fleet, rotating, "status")).code == 0
    assert len(aws.proxy.requests) == asked


async def test_a_gateway_that_does_not_answer_is_named(rotating: Served, shell_of_fleet: Shell) -> None:
    ran = await run(shell_of_fleet, rotating, "status", "--url", "http://127.0.0.1:1")
    assert ran.code == 1
    assert "does not answer" in ran.err
