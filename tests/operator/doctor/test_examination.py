"""A good set-up is well, and each fault in it is named with the next command."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from email_gateway.errors import ConfigurationError
from email_gateway.operator.doctor import Level, Subject, report_settings
from email_gateway.operator.doctor.subject import check_start
from email_gateway.settings import load_settings
from email_gateway.store.migrations import list_migrations
from tests.fault_proxy import EVERY, Fault
from tests.operator.doctor.stand import PASSWORD, Stand, found, problems
from tests.plugins.secrets_manager import VALUES
from tests.smtp_servers import SmtpServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]

LAST_MIGRATION = list_migrations()[-1][0]
KEYS = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}


async def test_a_good_set_up_is_well(stand: Stand) -> None:
    report = await stand.look()
    assert problems(report) == []
    assert report.level is Level.OK
    assert [finding.check for finding in report.findings] == [
        "settings", "credentials", "region", "dns", "endpoint", "clock", "secrets", "kms key", "postgresql",
        "durability", "pooler", "login", "connections", "space", "migrations", "root key", "redis", "smarthost",
        "domains", "start-up",
    ]  # fmt: skip


async def test_nothing_is_changed_and_no_mail_is_sent(stand: Stand) -> None:
    await stand.admin.execute(f"ALTER ROLE {stand.login} SET default_transaction_read_only = on")
    report = await stand.look()
    assert problems(report) == []  # PostgreSQL would have refused to write
    assert {name for request in stand.aws.proxy.requests for name in request} == {"SecretId", "VersionStage"}
    assert stand.smarthost.verbs() == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


class Broken(NamedTuple):
    """One fault: how it is made, which check names it, and what that says and advises."""

    make: Callable[[Stand], Awaitable[object]]
    check: str
    seen: str
    next_step: str


async def delete_salt(stand: Stand) -> None:
    stand.aws.client.delete_secret(SecretId=f"{stand.aws.prefix}/encryption-salt", ForceDeleteWithoutRecovery=True)


async def mark_salt_for_deletion(stand: Stand) -> None:
    stand.aws.client.delete_secret(SecretId=f"{stand.aws.prefix}/encryption-salt")


def fault(name: str, fault: Fault) -> Callable[[Stand], Awaitable[None]]:
    async def make(stand: Stand) -> None:
        stand.aws.proxy.faults[name] = fault

    return make


def secret(name: str, value: Callable[[Stand], str]) -> Callable[[Stand], Awaitable[None]]:
    async def make(stand: Stand) -> None:
        stand.aws.put(name, value(stand))

    return make


async def let_the_clock_run(stand: Stand) -> None:
    stand.aws.proxy.clock_ahead = 900.0


async def lose_the_last_migration(stand: Stand) -> None:
    await stand.admin.execute("DELETE FROM schema_migration WHERE name = $1", LAST_MIGRATION)


async def revoke_the_service_role(stand: Stand) -> None:
    await stand.admin.execute(f"REVOKE email_gateway_service FROM {stand.login}")


async def answer_before_commits_are_durable(stand: Stand) -> None:
    await stand.admin.execute(f"ALTER ROLE {stand.login} SET synchronous_commit = off")


async def allow_no_connection(stand: Stand) -> None:
    await stand.admin.execute(f"ALTER ROLE {stand.login} CONNECTION LIMIT 0")


async def stop_the_smarthost(stand: Stand) -> None:
    await stand.smarthost.stop()


async def let_the_smarthost_be_a_stranger(stand: Stand) -> None:
    stranger = await stand.stack.enter_async_context(SmtpServer(tls=stand.authority.server(self_signed=True)))
    stand.aws.put("smtp-url", stand.smtp_url.replace(f":{stand.smarthost.port}", f":{stranger.port}"))


async def schedule_the_kms_key_for_deletion(stand: Stand) -> None:
    kms = stand.kms()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    stand.aws.client.update_secret(SecretId=f"{stand.aws.prefix}/admin-api-key", KmsKeyId=key)
    kms.schedule_key_deletion(KeyId=key)


async def seal_under_another_root(stand: Stand) -> None:
    await stand.admin.execute(
        "INSERT INTO crypto_root (root_id, key_version_id, salt_version_id, state, canary)"
        " VALUES (decode(repeat('ab', 16), 'hex'), 'a', 'b', 'active', '')"
    )


async def restore_half_a_backup(stand: Stand) -> None:
    await stand.admin.execute(
        "INSERT INTO inbox_mail (tenant_id, inbox_id, message_id, recipients, sealed_raw, size)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{0}', '\\xe1', 1)"
    )


BROKEN = {
    "a secret is missing": Broken(
        delete_salt, "secrets", "encryption-salt: ResourceNotFoundException", "aws secretsmanager describe-secret"
    ),
    "a secret is marked for deletion": Broken(
        mark_salt_for_deletion, "secrets", "encryption-salt: InvalidRequestException", "aws secretsmanager restore-secret"
    ),
    "the role may not read": Broken(
        fault(EVERY, Fault.DENIED), "secrets", "AccessDeniedException", "aws secretsmanager get-secret-value"
    ),
    "the role may not decrypt": Broken(
        fault("encryption-key", Fault.NO_KMS), "secrets", "DecryptionFailure", "aws secretsmanager describe-secret"
    ),
    "AWS throttles": Broken(fault(EVERY, Fault.THROTTLED), "secrets", "ThrottlingException", "aws cloudtrail"),
    "a web page answers": Broken(fault(EVERY, Fault.HTML), "secrets", "NoVersionId", "curl "),
    "a value is too short": Broken(
        secret("encryption-salt", lambda _: "short"), "secrets", "InvalidValue", "aws secretsmanager put-secret-value"
    ),
    "key and salt are one": Broken(
        secret("encryption-salt", lambda _: VALUES["encryption-key"]), "secrets", "encryption-salt: InvalidValue",
        "aws secretsmanager put-secret-value",
    ),
    "the clock runs free": Broken(let_the_clock_run, "clock", "behind the endpoint's", "timedatectl"),
    "the KMS key is going": Broken(
        schedule_the_kms_key_for_deletion, "kms key", "PendingDeletion", "aws kms cancel-key-deletion"
    ),
    "the database's password is wrong": Broken(
        secret("database-url", lambda stand: stand.process_url.replace(PASSWORD, "wrong")),
        "postgresql", "refuses the login (SQLSTATE 28P01)", "psql",
    ),
    "the database is away": Broken(
        secret("database-url", lambda _: "postgresql://u:p@127.0.0.1:1/db"), "postgresql", "does not answer", "pg_isready"
    ),
    "commits are not durable": Broken(
        answer_before_commits_are_durable, "postgresql", "synchronous_commit is off", "psql"
    ),
    "a migration is missing": Broken(
        lose_the_last_migration, "migrations", f"lacks {LAST_MIGRATION}", "email-gateway migrate"
    ),
    "the login lacks its rights": Broken(revoke_the_service_role, "login", "may not read api_key", "psql"),
    "no connection is left": Broken(allow_no_connection, "connections", "no connection left", "psql"),
    "another root is active": Broken(
        seal_under_another_root, "root key", f"active is {'ab' * 16}", "email-gateway keys status"
    ),
    "half a backup was restored": Broken(
        restore_half_a_backup, "root key", "crypto_root is empty", "email-gateway keys status"
    ),
    "Redis is away": Broken(
        secret("redis-url", lambda _: "redis://127.0.0.1:1/0"), "redis", "unreachable", "redis-cli -h 127.0.0.1 -p 1"
    ),
    "Redis is something else": Broken(
        secret("redis-url", lambda stand: f"redis://127.0.0.1:{stand.smarthost.port}/0"), "redis", "no redis", "redis-cli"
    ),
    "the smarthost's password is wrong": Broken(
        secret("smtp-url", lambda stand: stand.smtp_url.replace(PASSWORD, "wrong")),
        "smarthost", "at AUTH: auth failed, it said 535 5.7.8", "openssl s_client -starttls smtp",
    ),
    "the smarthost is away": Broken(stop_the_smarthost, "smarthost", "at CONNECT", "nc -vz"),
    "the smarthost is a stranger": Broken(
        let_the_smarthost_be_a_stranger, "smarthost", "at STARTTLS: certificate invalid", "openssl s_client"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
async def test_a_fault_is_named_with_the_next_command(stand: Stand, fault: Broken) -> None:
    await fault.make(stand)
    report = await stand.look()
    assert report.level is Level.BROKEN
    (named,) = problems(report)
    assert (named.check, named.level) == (fault.check, Level.BROKEN)
    assert fault.seen in named.seen
    assert named.means
    assert named.next_step.startswith(fault.next_step)


async def test_what_hangs_is_bounded_and_named(stand: Stand) -> None:
    async with asyncio.timeout(20):
        stand.bound = 1.0
        stand.aws.proxy.faults[EVERY] = Fault.HANG
        report = await stand.look()
    assert report.level is Level.BROKEN
    named = found(report, "secrets")
    assert (named.level, named.next_step.split()[0]) == (Level.BROKEN, "curl")


async def test_what_depends_on_a_secret_that_cannot_be_read_is_not_called_broken(stand: Stand) -> None:
    stand.aws.proxy.faults[EVERY] = Fault.DENIED
    report = await stand.look()
    for check in ("postgresql", "redis", "smarthost", "kms key"):
        assert found(report, check).level is Level.SKIPPED


def test_settings_that_cannot_work_are_a_report_of_their_own() -> None:
    report = report_settings(ConfigurationError("The settings cannot work:\n  - TRANSPORT must be set"))
    assert report.level is Level.BROKEN
    assert "TRANSPORT must be set" in report.findings[0].seen


async def test_warnings_of_the_settings_are_shown_and_break_nothing(stand: Stand) -> None:
    report = await stand.look({"TRANSPORT": "inbox"})
    assert report.level is Level.WARNING
    assert "not sent to anyone" in found(report, "settings").means


async def test_a_check_that_cannot_be_made_says_so_and_leaves_the_others(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = tmp_path / "config"
    damaged.write_text("this is no AWS configuration")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(damaged))
    report = await stand.look()
    assert {finding.check for finding in problems(report)} == {"aws", "secrets"}
    assert found(report, "start-up").level is Level.OK


def test_a_slow_start_names_its_slowest_step() -> None:
    subject = Subject(load_settings({"APP_ENV": "test", **KEYS}))
    subject.steps.seconds |= {"secrets": 9.8, "database": 0.1}
    finding = check_start(subject)
    assert finding.level is Level.WARNING
    assert "the step secrets" in finding.means
    assert finding.seen.startswith("9.90 s")
