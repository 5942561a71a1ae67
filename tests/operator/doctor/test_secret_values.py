"""KMS keys behind the secrets, and how old those are."""

from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.operator.doctor import Level
from tests.moto_server import kept_secret
from tests.operator.doctor.stand import Stand, found

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]


async def put_under(stand: Stand, key_id: str) -> None:
    for name in (*stand.aws.versions,):
        stand.aws.client.update_secret(SecretId=f"{stand.aws.prefix}/{name}", KmsKeyId=key_id)


async def test_a_key_of_the_gateways_own_is_named(stand: Stand) -> None:
    key_id = stand.kms().create_key()["KeyMetadata"]["KeyId"]
    await put_under(stand, key_id)
    finding = found(await stand.look(is_production=True), "kms key")
    assert (finding.level, finding.seen) == (Level.OK, f"{key_id} is enabled")


async def test_a_disabled_key_is_broken_and_can_be_enabled(stand: Stand) -> None:
    key_id = stand.kms().create_key()["KeyMetadata"]["KeyId"]
    stand.kms().disable_key(KeyId=key_id)
    await put_under(stand, key_id)
    finding = found(await stand.look(), "kms key")
    assert finding.level is Level.BROKEN
    assert finding.next_step == f"aws kms enable-key --key-id {key_id} --region us-east-1"


async def test_a_key_that_does_not_exist_is_broken(stand: Stand) -> None:
    await put_under(stand, "alias/nobodys")
    finding = found(await stand.look(), "kms key")
    assert (finding.level, finding.seen) == (Level.BROKEN, "alias/nobodys does not exist")


async def test_in_production_a_secret_that_has_not_changed_for_long_is_warned_of(stand: Stand) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    kept_secret(f"{stand.aws.prefix}/encryption-key").last_changed_date = old.timestamp()
    assert not [finding for finding in (await stand.look()).findings if finding.check == "rotation"]
    report = await stand.look(is_production=True)
    levels = {finding.seen.split()[0]: finding.level for finding in report.findings if finding.check == "rotation"}
    assert levels == {"encryption-key": Level.WARNING, "admin-api-key": Level.OK}


async def test_with_secrets_manager_off_aws_is_not_asked(stand: Stand) -> None:
    keys = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}
    places = {"DATABASE_URL": stand.process_url, "REDIS_URL": stand.redis_url, "SMTP_URL": stand.smtp_url}
    report = await stand.look({"APP_ENV": "test", "USE_SECRETS_MANAGER": "false", **places, **keys})
    assert report.level is Level.OK
    assert "from the environment" in found(report, "secrets").seen
    assert stand.aws.proxy.requests == []
