"""Tokens for RDS: signed by the real client, for the login of the URL and for a server that proves itself."""

from urllib.parse import parse_qs, urlsplit

import pytest

from email_gateway.errors import ConfigurationError, DatabaseUnavailable
from email_gateway.foundation import find_database_source
from email_gateway.secrets import SecretsService
from email_gateway.secrets.rds_tokens import RdsTokens
from email_gateway.settings import load_settings
from tests.moto_server import AWS_ENVIRONMENT

pytestmark = pytest.mark.anyio

KEYS = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}
ENVIRON = {**KEYS, "DATABASE_IAM_AUTH": "true", "AWS_REGION": "sa-east-1"}
URL = "postgresql://email_gateway_process@db.example.com/email_gateway?sslmode=verify-full"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


async def test_a_token_is_for_the_host_the_login_and_the_region() -> None:
    url = URL.replace("email_gateway_process@", "o%27hara@").replace(".com/", ".com:6432/")
    token = await RdsTokens(load_settings(ENVIRON))(url)
    parts = urlsplit(f"https://{token}")
    asked = parse_qs(parts.query)
    assert parts.netloc == "db.example.com:6432"
    assert (asked["Action"], asked["DBUser"]) == (["connect"], ["o'hara"])
    assert asked["X-Amz-Expires"] == ["900"]
    assert asked["X-Amz-Credential"][0].split("/")[2:4] == ["sa-east-1", "rds-db"]
    assert "testing" not in asked["X-Amz-Signature"][0]


async def test_the_port_is_postgresqls_where_the_url_has_none() -> None:
    assert (await RdsTokens(load_settings(ENVIRON))(URL)).startswith("db.example.com:5432/")


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("verify-full", "require"),
        URL.partition("?")[0],
        URL.replace("email_gateway_process@", ""),
        URL.replace("db.example.com", "a.example.com,b.example.com"),
        "postgresql:///email_gateway?host=/run/postgresql&sslmode=verify-full",
    ],
    ids=["not verified", "no tls", "no login", "two hosts", "a socket"],
)
async def test_a_token_goes_only_to_a_server_that_proves_itself(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sslmode=verify-full"):
        await RdsTokens(load_settings(ENVIRON))(url)


async def test_without_credentials_the_database_is_unavailable_and_the_message_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DatabaseUnavailable, match=r"NoCredentialsError.*rds-db:connect"):
        await RdsTokens(load_settings(ENVIRON))(URL)


async def test_only_who_asks_for_it_logs_in_by_iam() -> None:
    for environ, expected in ((ENVIRON, RdsTokens), ({**KEYS, "DATABASE_IAM_AUTH": "false"}, type(None))):
        settings = load_settings({**environ, "DATABASE_URL": URL})
        service = await SecretsService.start(settings)
        source = find_database_source(settings, service)
        assert source is not None
        assert isinstance(source.make_password, expected)
        await service.close()


async def test_the_embedded_server_is_entered_by_its_password() -> None:
    settings = load_settings(ENVIRON, {"DATABASE_URL": URL, "DATABASE_IS_EMBEDDED": "yes"})
    service = await SecretsService.start(settings)
    source = find_database_source(settings, service)
    assert source is not None
    assert source.make_password is None
    await service.close()
