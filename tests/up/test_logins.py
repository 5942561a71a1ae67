"""Who the processes of `up` log in as, and what becomes of a home whose services were a superuser's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.database import Database
from email_gateway.store.migrations import FORMER_TEXTS
from email_gateway.up.home import Credentials, Home
from tests.cli.test_commands import told
from tests.plugins.marks import session_watch
from tests.up.running import eventually, fresh_home, running_up

pytestmark = pytest.mark.anyio


@pytest.fixture
def home() -> Iterator[Path]:
    with fresh_home() as path:
        yield path


async def test_every_process_logs_in_as_the_service_and_none_as_a_superuser(home: Path) -> None:
    with running_up(home) as up:
        email_id = up.send()
        assert eventually(lambda: up.is_delivered(email_id))
        superuser_url = up.told["database_url"].replace(*credentials_of(home))
        superuser = await Database.connect(superuser_url, pool_size=1)
        rows = await superuser.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        )
        await superuser.close()
        assert [row["usename"] for row in rows] == ["email_gateway_process"]


async def test_migrate_finds_the_owners_login_of_a_running_home(home: Path) -> None:
    with running_up(home):
        runtime = Home(home).find_runtime()
        assert runtime is not None
        assert runtime.migrations_url
        assert runtime.migrations_url.startswith("postgresql://email_gateway_migrator:")
        assert await told("migrate", "--home", str(home)) == {"applied": []}


async def test_a_home_whose_services_were_a_superusers_is_carried_over_with_its_mail(home: Path) -> None:
    with Home(home).held():
        Home(home).keep_credentials(Credentials.make())
    server = EmbeddedPostgres(home)
    superuser_url = server.start()
    session_watch().add("the superuser's password", server.url.split(":")[2].split("@")[0])
    try:
        # The superuser's URL for everything, and the texts of the first release.
        with running_up(home, DATABASE_URL=superuser_url) as before:
            email_id = before.send()
            assert eventually(lambda: before.is_delivered(email_id))
        superuser = await Database.connect(superuser_url, pool_size=1)
        for name, digest in FORMER_TEXTS.items():
            await superuser.execute(
                "UPDATE schema_migration SET sha256 = decode($2, 'hex') WHERE name = $1", name, digest
            )
        await superuser.close()
    finally:
        server.stop()

    with running_up(home) as after:
        assert "email_gateway_process" in after.told["database_url"]
        assert after.told["api_key"] == before.told["api_key"]
        _, mail = after.ask(f"/emails/{email_id}")
        assert (mail["subject"], mail["last_event"]) == ("Your invoice", "delivered")
        another = after.send()
        assert eventually(lambda: after.is_delivered(another))


def credentials_of(home: Path) -> tuple[str, str]:
    """What to replace in a process's URL, and by what, to log in as the superuser."""
    folder = home / "postgres"
    process, superuser = (folder / name for name in ("email_gateway_process.password", "password"))
    return (
        f"email_gateway_process:{process.read_text().strip()}@",
        f"email_gateway:{superuser.read_text().strip()}@",
    )
