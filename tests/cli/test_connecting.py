"""How a command opens the vault: with the keys of the environment, or those that a home keeps."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from email_gateway.cli import app
from email_gateway.cli.connecting import find_api_url, open_database, open_vault
from email_gateway.errors import ConfigurationError, DatabaseUnavailable, WrongRootKey
from email_gateway.up.home import Credentials, Home, Runtime
from email_gateway.vault.keyring import Keyring
from tests.conftest import KEY, SALT

pytestmark = pytest.mark.anyio

ADMIN_KEY = "an-admin-key-for-tests-of-forty-characters"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without keys, and a working directory without .env."""
    for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY", "APP_ENV", "NODE_ENV", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("email_gateway.cli.connecting.default_home", lambda: tmp_path / "usual")
    monkeypatch.chdir(tmp_path)


def set_environment(monkeypatch: pytest.MonkeyPatch, database_url: str, key: str = KEY) -> None:
    for name, value in (("ENCRYPTION_KEY", key), ("ENCRYPTION_SALT", SALT), ("ADMIN_API_KEY", ADMIN_KEY)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", database_url)


async def test_the_vault_opens_with_the_keys_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, keyring: Keyring, tenant_id: UUID
) -> None:
    row = uuid4()
    sealed = (await keyring.tenant(tenant_id)).seal("message.content", row, b"a text")
    set_environment(monkeypatch, database_url)
    async with open_vault(None) as (_, opened):
        assert await opened.open(tenant_id, "message.content", row, sealed) == b"a text"


async def test_the_keys_of_a_named_home_go_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, keyring: Keyring, tenant_id: UUID
) -> None:
    ours = (await keyring.tenant(tenant_id)).index_key_id
    set_environment(monkeypatch, "postgresql://nobody@127.0.0.1:9/nothing", key="another-key-" * 4)
    home = Home(tmp_path)
    with home.held():
        home.keep_credentials(Credentials(KEY, SALT, ADMIN_KEY))
        home.publish(Runtime(1, "http://127.0.0.1:9/v1", database_url))
        async with open_vault(tmp_path) as (_, opened):
            assert (await opened.tenant(tenant_id)).index_key_id == ours


def test_the_address_is_https_where_the_api_has_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_api_url(None) == "http://127.0.0.1:8025/v1"
    for name in ("TLS_CERT_FILE", "TLS_KEY_FILE"):
        monkeypatch.setenv(name, "/etc/server.pem")
    assert find_api_url(None) == "https://127.0.0.1:8025/v1"


def test_migrations_log_in_by_iam_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_IAM_AUTH", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    file = tmp_path / "owner.url"
    file.write_text("postgresql://email_gateway_migrator@127.0.0.1:1/email_gateway")
    answer = CliRunner().invoke(app, ["migrate", "--url-file", str(file)])
    # A token is asked for, and none is signed for a server that is not verified.
    assert isinstance(answer.exception, ConfigurationError)
    assert "DATABASE_IAM_AUTH needs" in str(answer.exception)
    assert "its URL is that of --url-file" in str(answer.exception)


async def test_without_keys_the_command_says_which_are_missing(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    with pytest.raises(ConfigurationError, match="ENCRYPTION_KEY"):
        async with open_vault(None):
            pass


@pytest.mark.usefixtures("keyring")
async def test_other_keys_than_the_databases_open_nothing(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    set_environment(monkeypatch, database_url, key="another-key-" * 4)
    with pytest.raises(WrongRootKey):
        async with open_vault(None):
            pass


async def test_a_database_that_is_away_is_named_by_whoever_said_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    set_environment(monkeypatch, away)
    with pytest.raises(DatabaseUnavailable, match=r"its URL is that of DATABASE_URL$"):
        async with open_database(None):
            pass
    home = Home(tmp_path)
    with home.held():
        home.publish(Runtime(1, "http://127.0.0.1:9/v1", away))
        with pytest.raises(DatabaseUnavailable, match=f"the gateway that runs in {tmp_path}$"):
            async with open_database(tmp_path):
                pass
