"""The start: everything at hand and proven, or a reason and what to do next."""

import pickle
from datetime import timedelta
from typing import Any

import pytest

from email_gateway.errors import ConfigurationError, SecretUnavailable
from email_gateway.secrets import Secret, SecretName, SecretsService
from email_gateway.secrets.clock import SystemClock
from email_gateway.secrets.secrets_manager import CallLimits, SecretsManagerSource
from email_gateway.settings import load_settings
from tests.fault_proxy import EVERY, Fault
from tests.observe.captured import captured_logs
from tests.plugins.secrets_manager import PATIENT, QUICK, VALUES, Aws, Start, limits_for
from tests.secrets.fake_clock import FakeClock
from tests.secrets.reasons import LASTING, PASSING

pytestmark = pytest.mark.anyio

DATABASE_URL = "postgresql://app:MARK-password@db.example.com:5432/mail?sslmode=verify-full"


async def test_start_fetches_every_critical_secret_with_its_version(aws: Aws, start: Start) -> None:
    service = await start()
    for name, value in VALUES.items():
        assert service.get(name).value == value
        assert service.get(name).version_id == aws.versions[name]
    assert service.health == "ok"
    assert service.find("database-url") is None


async def test_every_request_names_a_stage(aws: Aws, start: Start) -> None:
    await start()
    assert [request["VersionStage"] for request in aws.proxy.requests] == ["AWSCURRENT"] * len(SecretName)


async def test_secrets_are_fetched_at_the_same_time(aws: Aws, start: Start) -> None:
    aws.proxy.meet = len(SecretName)
    await start(limits=CallLimits())
    assert aws.proxy.have_met.is_set()


async def test_the_log_names_each_secret_and_version_and_no_value(aws: Aws, start: Start) -> None:
    aws.create({"database-url": DATABASE_URL})
    with captured_logs() as log:
        await start()
    fetched = {line["name"]: line["version_id"] for line in log.events("Secret fetched from AWS Secrets Manager")}
    assert fetched == {f"{aws.prefix}/{name}": version for name, version in aws.versions.items()}
    assert "MARK" not in log.getvalue()


@pytest.mark.parametrize("fault", LASTING)
async def test_what_waiting_does_not_mend_stops_the_start_at_once(aws: Aws, start: Start, fault: Fault) -> None:
    code, advice = LASTING[fault]
    aws.proxy.faults["encryption-salt"] = fault
    with pytest.raises(ConfigurationError) as stopped:
        await start(clock=FakeClock(on_sleep=lambda: pytest.fail("waited")))
    assert "Failed to fetch secrets from AWS Secrets Manager in us-east-1" in str(stopped.value)
    assert f"{aws.prefix}/encryption-salt: " in str(stopped.value)
    assert f"{aws.prefix}/encryption-key" not in str(stopped.value)
    assert code in str(stopped.value)
    assert advice in str(stopped.value)
    assert "MARK" not in str(stopped.value)


@pytest.mark.parametrize("fault", PASSING)
async def test_what_may_pass_is_repeated_until_patience_ends(aws: Aws, start: Start, fault: Fault) -> None:
    code, advice = PASSING[fault]
    aws.proxy.faults["encryption-key"] = fault
    clock = FakeClock(runs_by_itself=True)
    began = clock.monotonic()
    with pytest.raises(SecretUnavailable) as stopped:
        await start(clock=clock, limits=limits_for(fault), patience=timedelta(seconds=4))
    asked = [request for request in aws.proxy.requests if request["SecretId"].endswith("/encryption-key")]
    assert len(asked) > 2
    assert clock.monotonic() - began < 4
    assert f"{aws.prefix}/encryption-key: {code}. " in str(stopped.value).replace("HTTP ", "")
    assert advice in str(stopped.value)


async def test_a_silent_endpoint_is_given_up_when_patience_ends(aws: Aws, start: Start) -> None:
    aws.proxy.faults[EVERY] = Fault.HANG
    with pytest.raises(SecretUnavailable, match="TimedOut"):
        await start(clock=SystemClock(), limits=PATIENT, patience=timedelta(seconds=0.3))


async def test_a_start_outlives_a_throttle(aws: Aws, start: Start) -> None:
    aws.proxy.faults[EVERY] = Fault.THROTTLED
    service = await start(clock=FakeClock(runs_by_itself=True, on_sleep=aws.proxy.faults.clear))
    assert service.get("encryption-key").value == VALUES["encryption-key"]


async def test_failures_with_one_cause_share_one_line(aws: Aws, start: Start) -> None:
    aws.proxy.faults[EVERY] = Fault.DENIED
    with pytest.raises(ConfigurationError) as stopped:
        await start()
    assert str(stopped.value).count("AccessDeniedException") == 1
    assert all(f"{aws.prefix}/{name}" in str(stopped.value) for name in SecretName)


async def test_missing_credentials_are_a_configuration_error(
    aws: Aws, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="has no AWS credentials"):
        await start()


async def test_a_region_that_the_client_refuses_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    settings = load_settings({"APP_ENV": "production", "AWS_REGION": "us-east-1", "TRANSPORT": "inbox"})
    with pytest.raises(ConfigurationError, match="AWS_PROFILE"):
        await SecretsService.start(settings)


@pytest.mark.parametrize("name", VALUES)
async def test_a_critical_secret_never_comes_from_the_environment(aws: Aws, start: Start, name: str) -> None:
    aws.client.delete_secret(SecretId=f"{aws.prefix}/{name}", ForceDeleteWithoutRecovery=True)
    with pytest.raises(ConfigurationError, match="ResourceNotFoundException"):
        await start({name.upper().replace("-", "_"): "e" * 40})


async def test_an_absent_optional_secret_comes_from_the_environment(start: Start) -> None:
    service = await start({"DATABASE_URL": DATABASE_URL})
    assert service.get("database-url").value == DATABASE_URL
    assert service.get("database-url").version_id == "environment"


async def test_an_optional_secret_goes_before_the_environment(aws: Aws, start: Start) -> None:
    aws.create({"database-url": DATABASE_URL})
    service = await start({"DATABASE_URL": "postgresql://localhost/other"})
    assert service.get("database-url").value == DATABASE_URL


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.DELETED, Fault.HTML, Fault.PAGE_NOT_FOUND])
async def test_an_optional_secret_falls_back_only_when_there_is_none(aws: Aws, start: Start, fault: Fault) -> None:
    aws.proxy.faults["database-url"] = fault
    with pytest.raises(ConfigurationError, match="database-url"):
        await start({"DATABASE_URL": DATABASE_URL})


async def test_a_secret_deleted_with_recovery_is_not_absent(aws: Aws, start: Start) -> None:
    aws.create({"smtp-url": "smtp://user:MARK@relay.example.com:587"})
    aws.client.delete_secret(SecretId=f"{aws.prefix}/smtp-url")
    with pytest.raises(ConfigurationError, match="marked for deletion"):
        await start({"SMTP_URL": "smtp://localhost:25"})


async def test_the_json_of_rds_becomes_a_url(aws: Aws, start: Start) -> None:
    stored = (
        '{"engine":"postgres","host":"db.example.com","port":5432,"username":"app","password":"p@ss/w","dbname":"mail"}'
    )
    aws.create({"database-url": stored})
    assert (await start()).get("database-url").value == "postgresql://app:p%40ss%2Fw@db.example.com:5432/mail"


async def test_key_and_salt_must_differ(aws: Aws, start: Start) -> None:
    aws.put("encryption-salt", VALUES["encryption-key"] + "\n")
    with pytest.raises(ConfigurationError, match="must differ between encryption key and salt") as stopped:
        await start()
    assert "MARK" not in str(stopped.value)


async def test_smtp_needs_a_smarthost_from_somewhere(aws: Aws, start: Start) -> None:
    with pytest.raises(ConfigurationError, match="TRANSPORT=smtp needs a smarthost"):
        await start({"TRANSPORT": "smtp"})
    aws.create({"smtp-url": "smtp://user:MARK@relay.example.com:587"})
    assert (await start({"TRANSPORT": "smtp"})).get("smtp-url").value.endswith(":587")


async def test_development_reads_the_settings_and_never_refreshes() -> None:
    clock = FakeClock(on_sleep=lambda: pytest.fail("slept"))
    service = await SecretsService.start(load_settings(LOCAL), clock=clock)
    assert service.get("encryption-key").value == LOCAL["ENCRYPTION_KEY"]
    assert service.get("encryption-key").version_id == "environment"
    assert service.admin_key_matches(LOCAL["ADMIN_API_KEY"])
    assert service.health == "ok"
    await service.close()


async def test_the_source_follows_the_settings(aws: Aws) -> None:
    service = await SecretsService.start(aws.settings())
    assert service.get("encryption-key").version_id == aws.versions["encryption-key"]
    await service.close()


async def test_reading_what_is_not_set_raises(start: Start) -> None:
    service = await start()
    with pytest.raises(SecretUnavailable, match="smtp-url is not set"):
        service.get("smtp-url")


async def test_a_secret_is_neither_shown_nor_pickled(start: Start) -> None:
    secret: Any = (await start()).get("encryption-key")
    assert isinstance(secret, Secret)
    assert "MARK" not in f"{secret!r} {secret} {[secret]}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


async def test_the_source_itself_shows_no_value(aws: Aws) -> None:
    source = await SecretsManagerSource.open(aws.settings(), QUICK)
    fetched = await source.fetch("encryption-key")
    assert fetched.text == VALUES["encryption-key"]
    assert "MARK" not in repr(fetched)
    await source.close()


LOCAL = {"ENCRYPTION_KEY": "k" * 32, "ENCRYPTION_SALT": "s" * 32, "ADMIN_API_KEY": "a" * 32}


@pytest.mark.parametrize(
    ("name", "stored", "form"),
    [
        ("encryption-key", '{"encryption-key": "MARK-4d1f0e6c-8a4b-4f8e-9c55-0123456789ab"}', "a JSON object"),
        ("encryption-salt", "changeme-MARK-changeme-MARK-changeme", "a placeholder"),
        ("admin-api-key", "k" * 40, "repeated"),
        ("smtp-url", "SMTP_URL=smtp://user:MARK@host:587", "KEY=value"),
    ],
)
async def test_a_wrapped_value_or_none_at_all_stops_the_start(
    aws: Aws, start: Start, name: str, stored: str, form: str
) -> None:
    if name in VALUES:
        aws.put(name, stored)
    else:
        aws.create({name: stored})
    with pytest.raises(ConfigurationError) as stopped:
        await start()
    assert f"{aws.prefix}/{name}: InvalidValue" in str(stopped.value)
    assert form in str(stopped.value)
    assert "email-gateway secrets set" in str(stopped.value)
    assert "MARK" not in str(stopped.value)


async def test_the_environment_of_development_may_be_weak(start: Start) -> None:
    as_developers_write_them = {name: f"your-local-dev-key-at-least-32-chars-{name}" for name in LOCAL}
    service = await SecretsService.start(load_settings(as_developers_write_them))
    assert service.get("encryption-key").value.startswith("your-local-dev-key")
    await service.close()
