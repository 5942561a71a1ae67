"""`email-gateway doctor` as the process that a person starts, and what it prints."""

import json

import pytest

from email_gateway.cli.doctor import render
from email_gateway.operator.doctor import Finding, Level, Report
from tests.cli.test_commands import run
from tests.conftest import KEY, SALT
from tests.up.running import fresh_home, running_up

pytestmark = pytest.mark.anyio

KEYS = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "a" * 40}
LONG = "word " * 40


async def test_a_running_home_is_well() -> None:
    with fresh_home() as home, running_up(home):
        done = await run("doctor", "--home", str(home))
        told = done.stdout.decode()
    assert done.returncode == 0, told
    assert " 0 warnings, 0 broken, 0 not looked at" in told
    assert "are free" in told  # the disk of its own database
    assert max(map(len, told.splitlines())) <= 80


async def test_something_broken_exits_1_and_machines_get_the_same(database_url: str) -> None:
    environ = {**KEYS, "DATABASE_URL": database_url, "REDIS_URL": "redis://:MARK-redis@127.0.0.1:1"}
    for_people, for_machines = await run("doctor", **environ), await run("doctor", "--json", **environ)
    assert (for_people.returncode, for_machines.returncode) == (1, 1)
    told = json.loads(for_machines.stdout)
    assert told["status"] == "broken"
    (broken,) = (check for check in told["checks"] if check["level"] == "broken")
    assert (broken["check"], broken["next_step"]) == ("redis", "redis-cli -h 127.0.0.1 -p 1 ping")
    assert "BROKEN: redis" in for_people.stdout.decode()
    assert broken["next_step"] in for_people.stdout.decode()
    for said in (for_people, for_machines):
        assert not any(secret.encode() in said.stdout + said.stderr for secret in (*KEYS.values(), "MARK-redis"))


async def test_settings_that_cannot_work_are_named_and_exit_1() -> None:
    done = await run("doctor", APP_ENV="production", ENCRYPTION_KEY="MARK-short")
    told = done.stdout.decode()
    assert done.returncode == 1
    assert "BROKEN   settings" in told
    assert "AWS_REGION must be set" in told
    assert "MARK-short" not in told


def test_everything_but_commands_fits_into_80_columns() -> None:
    findings = [
        Finding("a check", Level.OK, LONG),
        Finding("another", Level.BROKEN, f"{LONG}\n  - {LONG}", LONG, "command " * 20),
        Finding("third", Level.SKIPPED, "why"),
    ]
    lines = render(Report(findings, 1.0)).splitlines()
    assert [line for line in lines if len(line) > 80] == [f"  next   {'command ' * 20}"]
    assert lines[-1] == "1 OK, 0 warnings, 1 broken, 1 not looked at, in 1.0 s"


def test_only_what_is_not_well_is_explained() -> None:
    findings = [Finding("good", Level.OK, "fine"), Finding("bad", Level.WARNING, "seen", "means", "next")]
    told = render(Report(findings, 0.0))
    assert told.splitlines()[:2] == ["OK       good  fine", "warning  bad   seen"]
    assert "warning: bad\n  seen   seen\n  means  means\n  next   next\n" in told
    assert "OK: good" not in told
