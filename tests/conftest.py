"""What every test may ask for: a real PostgreSQL, a migrated database of its own, a keyring."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.database import Database
from email_gateway.store.migrations import migrate
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.given_roots import only

if TYPE_CHECKING:  # pytest imports its plugins itself, to rewrite their assertions
    from tests.plugins.marks import Watch

pytest_plugins = [
    "tests.plugins.marks",
    "tests.plugins.skips",
    "tests.plugins.workers",
    "tests.plugins.secrets_manager",
]

KEY = "a-test-encryption-key-of-forty-characters"
SALT = "a-test-encryption-salt-of-forty-character"


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres_url(watch: "Watch") -> Iterator[str]:
    """A PostgreSQL server for the session: TEST_DATABASE_URL, or the embedded one in a fresh home."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    # The server's own user must be able to enter the directory: pytest's tmp_path is 0700.
    with tempfile.TemporaryDirectory(prefix="email-gateway-tests-") as home:
        Path(home).chmod(0o755)
        server = EmbeddedPostgres(Path(home))
        try:
            url = server.start()
            watch.add("the database password", urlsplit(url).password or "")
            yield url
        finally:
            server.stop()
            watch.keep("postgres.log", (Path(home) / "postgres.log").read_text())


@pytest.fixture(scope="session")
async def template(postgres_url: str) -> AsyncIterator[str]:
    """The name of a migrated, empty database that each test's own is copied from."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name}")
    await migrate(at(postgres_url, name))
    yield name
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """The URL of a migrated database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield at(postgres_url, name)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A pool of ten connections to this test's database."""
    database = await Database.connect(database_url)
    yield database
    await database.close()


@pytest.fixture
async def keyring(db: Database, watch: "Watch") -> Keyring:
    """The vault of this test's database, begun with the test root key."""
    watch.add("the root key's secrets", KEY, SALT)
    return await Keyring.start(db, only(derive_root(KEY, SALT)))


@pytest.fixture
async def tenant_id(db: Database) -> uuid.UUID:
    """A tenant named `acme`."""
    tenant = uuid.uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'acme')", tenant)
    return tenant


def at(url: str, database: str) -> str:
    """The same server, another database."""
    head, _, tail = url.partition("?")
    return head.rsplit("/", 1)[0] + f"/{database}" + (f"?{tail}" if tail else "")
