"""The production checklist, point by point."""

import pytest

from email_gateway.operator.doctor import Level, Subject
from email_gateway.operator.doctor.production import check_list
from email_gateway.settings import load_settings
from tests.operator.doctor.stand import Stand, found, problems

GOOD = {
    "APP_ENV": "production",
    "AWS_REGION": "us-east-1",
    "TRANSPORT": "smtp",
    "SMTP_URL": "smtp://user:password@mail.example.com?tls=required",
    "REDIS_URL": "rediss://redis.example.com",
    "DATABASE_URL": "postgresql://u:p@db.example.com/d?sslmode=verify-full",
}


def points(url: str | None = None, **environ: str) -> list[tuple[Level, str]]:
    settings = load_settings({**GOOD, **environ})
    subject = Subject(settings, home_url=url, is_production=True)
    return [(finding.level, finding.seen) for finding in check_list(subject, {}, url or settings.database_url)]


@pytest.mark.parametrize("redis", ["rediss://redis.example.com", "rediss://redis.example.com?ssl_ca_certs=/ca.pem"])
def test_a_good_set_up_passes(redis: str) -> None:
    assert points(REDIS_URL=redis) == [(Level.OK, "settings and connections are as production asks")]


@pytest.mark.parametrize(
    ("environ", "level", "seen"),
    [
        ({"APP_ENV": "staging", "REQUIRE_VERIFIED_DOMAINS": "true"}, Level.BROKEN, "APP_ENV is staging"),
        ({"TRANSPORT": "inbox"}, Level.BROKEN, "TRANSPORT is inbox"),
        ({"REQUIRE_VERIFIED_DOMAINS": "false"}, Level.WARNING, "REQUIRE_VERIFIED_DOMAINS is off"),
        ({"LOG_FORMAT": "console"}, Level.WARNING, "LOG_FORMAT is console"),
        ({"LOG_LEVEL": "DEBUG"}, Level.WARNING, "LOG_LEVEL is DEBUG"),
        ({"API_HOST": "0.0.0.0"}, Level.WARNING, "API_HOST is open and TRUSTED_PROXIES is empty"),
        ({"REDIS_URL": ""}, Level.WARNING, "there is no Redis"),
        ({"REDIS_URL": "redis://redis.example.com"}, Level.BROKEN, "Redis is reached without verified TLS"),
        ({"REDIS_URL": "rediss://redis.example.com?ssl_cert_reqs=none"}, Level.BROKEN, "Redis is reached without verified TLS"),
        ({"REDIS_URL": "rediss://redis.example.com?ssl_check_hostname=false"}, Level.BROKEN, "Redis is reached without verified TLS"),
        ({"DATABASE_URL": "postgresql://u:p@db.example.com/d"}, Level.BROKEN, "PostgreSQL is reached without verified TLS"),
        ({"SMTP_URL": "smtp://mail.example.com"}, Level.BROKEN, "the smarthost is reached without verified TLS"),
    ],
)  # fmt: skip
def test_each_point_is_named_by_itself(environ: dict[str, str], level: Level, seen: str) -> None:
    assert points(**environ) == [(level, seen)]


def test_a_certificate_of_its_own_does_as_well_as_a_balancer() -> None:
    own = {"API_HOST": "0.0.0.0", "TLS_CERT_FILE": "/etc/server.pem", "TLS_KEY_FILE": "/etc/server.pem"}
    assert points(**own) == [(Level.OK, "settings and connections are as production asks")]


def test_secrets_in_the_environment_are_named() -> None:
    keys = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}
    assert (Level.BROKEN, "Secrets Manager is off") in points(APP_ENV="staging", USE_SECRETS_MANAGER="false", **keys)


def test_the_embedded_database_is_named() -> None:
    assert points("postgresql://u:p@127.0.0.1/d") == [(Level.WARNING, "the database is the embedded one")]


@pytest.mark.anyio
@pytest.mark.needs("redis-server")
async def test_what_the_checks_measure_they_judge_more_strictly(stand: Stand) -> None:
    await stand.admin.execute(f"ALTER ROLE {stand.login} SUPERUSER")
    relaxed, strict = await stand.look(), await stand.look(is_production=True)
    assert found(relaxed, "login").level is Level.WARNING
    assert found(strict, "login").level is Level.BROKEN
    assert found(strict, "kms key").level is Level.WARNING
    assert found(strict, "credentials").level is Level.WARNING
    assert {finding.check for finding in problems(strict)} == {"login", "kms key", "credentials"}
