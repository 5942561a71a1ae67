"""How a command opens the vault: with the keys of the environment, or those that a home keeps."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from email_gateway.cli.connecting import open_vault
from email_gateway.errors import ConfigurationError, WrongRootKey
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
