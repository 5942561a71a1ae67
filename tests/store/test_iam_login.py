"""Logging in to a real server with RDS's tokens, one for each connection, over TLS that is verified."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from email_gateway.errors import ConfigurationError, DatabaseRefused
from email_gateway.secrets.rds_tokens import RdsTokens
from email_gateway.settings import load_settings
from email_gateway.store.database import Database
from email_gateway.store.migrations import migrate
from email_gateway.store.server import look_at_server
from tests.delivery.certificates import Authority
from tests.moto_server import AWS_ENVIRONMENT
from tests.store.roles import Role
from tests.store.tls_front import TlsFront

pytestmark = pytest.mark.anyio

ENVIRON = {
    **{name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")},
    "DATABASE_IAM_AUTH": "true",
    "AWS_REGION": "sa-east-1",
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


class Rds:
    """What RDS adds to PostgreSQL: the login's password is whatever token was signed last, as long as it takes to log in."""

    def __init__(self, admin: Database, role: Role) -> None:
        self._admin = admin
        self._role = role
        self._sign = RdsTokens(load_settings(ENVIRON))
        self.tokens: list[str] = []

    async def __call__(self, url: str) -> str:
        token = await self._sign(url)
        self.tokens.append(token)
        await self._admin.execute(f"ALTER ROLE {self._role.name} PASSWORD '{token}'")
        return token


@pytest.fixture
async def url(database_url: str, role: Role, tmp_path: Path) -> AsyncIterator[str]:
    """The role's URL without a password, over TLS that is verified."""
    authority = Authority()
    bundle = tmp_path / "rds-ca.pem"
    bundle.write_text(authority.pem())
    front = TlsFront(database_url, authority.server())
    await front.open()
    over = front.over(role.url, f"sslmode=verify-full&sslrootcert={quote(str(bundle), safe='')}")
    yield f"postgresql://{role.name}@{over.rpartition('@')[2]}"
    await front.close()


async def test_every_new_connection_logs_in_with_a_token_of_its_own(db: Database, role: Role, url: str) -> None:
    rds = Rds(db, role)
    database = await Database.connect(url, pool_size=3, make_password=rds)
    async with database.transaction(), database.transaction() as second:
        assert (await second.fetch("SELECT current_user AS name"))[0]["name"] == role.name
    assert len(rds.tokens) == 2
    await database.fetch("SELECT 1")
    assert len(rds.tokens) == 2  # a connection that is open outlives its token
    await database.close()


async def test_migrations_and_the_doctor_log_in_the_same_way(db: Database, role: Role, url: str) -> None:
    await db.execute(f"GRANT email_gateway_service TO {role.name}")
    rds = Rds(db, role)
    assert await migrate(url, rds) == []
    assert not (await look_at_server(url, rds)).is_superuser
    assert len(rds.tokens) == 2


async def test_a_token_that_is_not_taken_is_a_refused_login(db: Database, role: Role, url: str) -> None:
    with pytest.raises(ConfigurationError, match="28P01"):
        await Database.connect(url, make_password=RdsTokens(load_settings(ENVIRON)))
    with pytest.raises(DatabaseRefused):
        await look_at_server(url, RdsTokens(load_settings(ENVIRON)))
