"""What every process stands on: a database that is starting is waited for, one that stays away is an error."""

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.errors import ConfigurationError, DatabaseUnavailable
from email_gateway.foundation import DatabaseSource, connect, get_database_source, open_foundation
from email_gateway.secrets import SecretsService
from email_gateway.settings import DATABASE_IS_EMBEDDED, load_settings
from email_gateway.store.database import Database
from tests.plugins.secrets_manager import Aws, Start

if TYPE_CHECKING:
    from tests.plugins.marks import Watch

pytestmark = pytest.mark.anyio

AWAY = "postgresql://u:MARK-p@127.0.0.1:1/db"
KEYS = {name: f"{name}-for-a-test-of-where-the-database-is" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT")} | {
    "ADMIN_API_KEY": "an-admin-key-for-a-test-of-where-the-database-is"
}


async def test_a_database_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    server.stop()
    connecting = asyncio.create_task(connect(DatabaseSource(url, "the test")))
    await asyncio.sleep(0)  # the first try finds nobody
    try:
        server.start()  # on the port it had before
        db = await connecting
        assert await db.fetch("SELECT 1")
        await db.close()
    finally:
        server.stop()


async def test_a_database_that_stays_away_is_an_error_that_may_pass() -> None:
    with pytest.raises(DatabaseUnavailable):
        await connect(DatabaseSource(AWAY, "the test"), patience=timedelta(0))


@pytest.mark.parametrize(
    ("handed", "named"), [({}, "DATABASE_URL"), ({DATABASE_IS_EMBEDDED: "true"}, "the embedded server")]
)
async def test_a_database_that_is_away_is_named_by_whoever_said_where_it_is(handed: dict[str, str], named: str) -> None:
    settings = load_settings({**KEYS, "DATABASE_URL": AWAY}, handed)
    secrets = await SecretsService.start(settings)
    with pytest.raises(DatabaseUnavailable, match=f"its URL is that of {named}$"):
        await connect(get_database_source(settings, secrets), patience=timedelta(0))
    await secrets.close()


async def test_a_database_that_a_secret_points_at_is_named_by_the_secret(aws: Aws, start: Start) -> None:
    settings = aws.settings({"DATABASE_URL": "postgresql://somewhere/else"})
    aws.create({"database-url": AWAY})
    source = get_database_source(settings, await start())
    with pytest.raises(DatabaseUnavailable, match=f"its URL is that of the secret {aws.prefix}/database-url$"):
        await connect(source, patience=timedelta(0))
    assert "MARK" not in repr(source)


async def test_a_login_that_is_refused_is_named_by_its_source_too(database_url: str) -> None:
    stranger = urlsplit(database_url)._replace(netloc=f"MARK:MARK@{urlsplit(database_url).netloc.rpartition('@')[2]}")
    with pytest.raises(ConfigurationError, match=r"refuses the login .*its URL is that of DATABASE_URL$") as refused:
        await connect(DatabaseSource(stranger.geturl(), "DATABASE_URL"))
    assert "MARK" not in str(refused.value)


class Login:
    """A superuser of the test's server whose password changes as RDS's rotation changes it."""

    def __init__(self, admin: Database, url: str, watch: "Watch") -> None:
        self.name = f"rotating_{uuid.uuid4().hex[:12]}"
        self._admin = admin
        self._url = urlsplit(url)
        self._watch = watch

    async def change_password(self) -> str:
        """Change it on the server; return the secret's new value, as the rotation writes it."""
        password = secrets.token_hex(16)
        self._watch.add("a role's password", password)
        await self._admin.execute(f"ALTER ROLE {self.name} PASSWORD '{password}'")
        return json.dumps(
            {
                "engine": "postgres",
                "host": self._url.hostname,
                "port": self._url.port,
                "username": self.name,
                "password": password,
                "dbname": self._url.path[1:],
            }
        )

    async def end_sessions(self) -> None:
        await self._admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1", self.name
        )


@pytest.fixture
async def login(db: Database, database_url: str, watch: "Watch") -> AsyncIterator[Login]:
    login = Login(db, database_url, watch)
    await db.execute(f"CREATE ROLE {login.name} LOGIN SUPERUSER")
    yield login
    await login.end_sessions()
    await db.execute(f"DROP ROLE {login.name}")


async def test_the_database_password_changes_before_its_secret_does(aws: Aws, login: Login) -> None:
    aws.create({"database-url": await login.change_password()})
    full_name = f"{aws.prefix}/database-url"
    async with open_foundation(aws.settings(), "worker") as foundation:
        pending = str(uuid.uuid4())
        aws.client.put_secret_value(
            SecretId=full_name,
            SecretString=await login.change_password(),
            ClientRequestToken=pending,
            VersionStages=["AWSPENDING"],
        )
        await login.end_sessions()
        # The pending version is what the server takes now, and nobody sees more than a new connection.
        answers = await asyncio.gather(*(eventually_answers(foundation.db) for _ in range(20)))
        assert answers == [login.name] * 20
        aws.client.update_secret_version_stage(
            SecretId=full_name,
            VersionStage="AWSCURRENT",
            MoveToVersionId=pending,
            RemoveFromVersionId=aws.versions["database-url"],
        )
        await foundation.secrets.refresh()
        assert foundation.secrets.get("database-url").version_id == pending
        await login.end_sessions()
        assert await eventually_answers(foundation.db) == login.name


async def test_a_changed_database_url_moves_new_connections(aws: Aws, db: Database, login: Login) -> None:
    aws.create({"database-url": await login.change_password()})
    async with open_foundation(aws.settings(), "worker") as foundation:
        await db.execute(f"CREATE ROLE {login.name}_clone LOGIN SUPERUSER PASSWORD 'MARK-clone'")
        url = get_database_source(foundation.settings, foundation.secrets).url
        aws.put(
            "database-url",
            url.replace(login.name, f"{login.name}_clone").replace(url.split(":")[2].split("@")[0], "MARK-clone"),
        )
        await foundation.secrets.refresh()
        row = await foundation.db.fetch_one("SELECT current_user AS name")
        assert row is not None
        assert row["name"] == f"{login.name}_clone"
    await db.execute(f"DROP ROLE {login.name}_clone")


async def test_a_database_url_that_cannot_be_used_changes_nothing(
    aws: Aws, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.create({"database-url": await login.change_password()})
    async with open_foundation(aws.settings(), "worker") as foundation:
        aws.put("database-url", "postgresql://nobody:MARK-wrong@127.0.0.1:1/nowhere")
        await foundation.secrets.refresh()
        assert await eventually_answers(foundation.db) == login.name
    said = capsys.readouterr().err
    assert "database_url_not_usable" in said
    assert "MARK" not in said


async def eventually_answers(db: Database) -> str:
    """Ask who we are; a connection that was ended under our hands is replaced by the next."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                row = await db.fetch_one("SELECT current_user AS name")
                assert row is not None
                return str(row["name"])
