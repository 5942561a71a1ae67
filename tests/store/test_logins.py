"""Who logs in: members of the service role and of the owner role, neither a superuser, and what each may do."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest

from email_gateway.embedded import EmbeddedPostgres, binaries
from email_gateway.errors import ConfigurationError, DatabaseRefused
from email_gateway.store.accounts import create_api_key, create_tenant, find_account, hash_api_key, list_api_keys
from email_gateway.store.database import Database
from email_gateway.store.logins import LOGINS, MIGRATOR, PROCESS, prepare_logins, require_tenant_role
from email_gateway.store.migrations import FORMER_TEXTS, list_migrations, migrate, require_current
from tests.conftest import at
from tests.plugins.marks import Watch

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(watch: Watch) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own: roles belong to a whole server."""
    with fresh_server(watch) as server:
        yield server


@pytest.fixture
async def process(server: EmbeddedPostgres) -> AsyncIterator[Database]:
    """The migrated database as a process of the gateway is logged in to it."""
    await admit(server)
    await migrate(server.url_of(MIGRATOR))
    db = await Database.connect(server.url_of(PROCESS), pool_size=1)
    yield db
    await db.close()


async def admit(server: EmbeddedPostgres) -> None:
    await prepare_logins(server.url, {login: server.password_of(login) for login in LOGINS})


async def ask(db: Database, question: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await db.fetch(question)]


async def test_neither_login_is_a_superuser_or_may_make_roles(process: Database) -> None:
    found = await ask(
        process,
        "SELECT rolname, rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"
        " FROM pg_roles WHERE rolname LIKE 'email_gateway\\_%' ORDER BY rolname",
    )
    assert found == [
        ("email_gateway_migrator", True, False),
        ("email_gateway_owner", False, False),
        ("email_gateway_process", True, False),
        ("email_gateway_service", False, False),
        ("email_gateway_tenant", False, False),
    ]


async def test_all_that_migrations_make_belongs_to_the_owner_role(process: Database) -> None:
    owners = await ask(
        process,
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()",
    )
    assert owners == [("email_gateway_owner",)]


async def test_a_process_may_read_every_table_and_view(process: Database) -> None:
    closed = await ask(
        process,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        " AND NOT has_table_privilege(oid, 'SELECT')",
    )
    assert closed == []  # a migration that makes a table grants it to email_gateway_service


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (one integer)",
        "ALTER TABLE message ADD COLUMN one integer",
        "DELETE FROM message",
        "DELETE FROM crypto_key_wrap",
        "DELETE FROM audit",
        "INSERT INTO schema_migration (name, sha256) VALUES ('9999_forged.sql', '')",
        "CREATE ROLE mine",
        "COPY tenant TO PROGRAM 'true'",
        "SET ROLE email_gateway_owner",
    ],
)
async def test_a_process_may_not(process: Database, statement: str) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        await process.execute(statement)
    assert refused.value.sqlstate == "42501"


async def test_a_process_finds_a_current_schema_without_being_allowed_to_change_it(
    process: Database, server: EmbeddedPostgres
) -> None:
    assert await migrate(server.url_of(PROCESS)) == []


async def test_a_process_that_would_have_to_migrate_is_told_who_can(
    process: Database, server: EmbeddedPostgres
) -> None:
    owner = await Database.connect(server.url_of(MIGRATOR), pool_size=1)
    name = list_migrations()[-1][0]
    row = await owner.fetch_one("DELETE FROM schema_migration WHERE name = $1 RETURNING sha256", name)
    assert row is not None
    try:
        with pytest.raises(ConfigurationError, match="member of email_gateway_owner"):
            await migrate(server.url_of(PROCESS))
    finally:
        await owner.execute("INSERT INTO schema_migration (name, sha256) VALUES ($1, $2)", name, row["sha256"])
        await owner.close()


async def test_a_process_may_act_for_tenants_and_one_that_may_not_is_told_what_it_needs(
    process: Database, server: EmbeddedPostgres
) -> None:
    await require_tenant_role(process)
    superuser = await Database.connect(server.url, pool_size=1)
    await superuser.execute("REVOKE email_gateway_tenant FROM email_gateway_process")
    try:
        with pytest.raises(ConfigurationError, match="GRANT email_gateway_tenant"):
            await require_tenant_role(process)
    finally:
        await superuser.execute("GRANT email_gateway_tenant TO email_gateway_process")
        await superuser.close()


@pytest.mark.parametrize("right", ["CREATEROLE", "NOCREATEROLE"])
async def test_a_user_that_owns_everything_works_on_and_may_act_for_tenants_where_it_can_give_itself_that(
    watch: Watch, right: str
) -> None:
    with fresh_server(watch) as server:
        superuser = await Database.connect(server.url, pool_size=1)
        await superuser.execute(f"CREATE ROLE one LOGIN {right}")
        await set_password(superuser, "one", server)
        if right == "NOCREATEROLE":  # an administrator made them
            for role in ("owner", "service", "tenant"):
                await superuser.execute(f"CREATE ROLE email_gateway_{role}")
        await superuser.execute("CREATE DATABASE theirs OWNER one")
        url = at(server.url_of("one"), "theirs")
        assert await migrate(url)
        db = await Database.connect(url, pool_size=1)
        tenant = await create_tenant(db, "acme", actor="test")
        made = await create_api_key(db, tenant.tenant_id, "key", actor="test")
        assert await find_account(db, hash_api_key(made.secret)) is not None, "policies do not bind the owner"
        if right == "NOCREATEROLE":
            with pytest.raises(ConfigurationError, match="GRANT email_gateway_tenant"):
                await require_tenant_role(db)
            await superuser.execute("GRANT email_gateway_tenant TO one")
        await require_tenant_role(db)
        assert [key.name for key in await list_api_keys(db.as_tenant(tenant.tenant_id), tenant.tenant_id)] == ["key"]
        await db.close()
        await superuser.close()


async def test_preparing_again_changes_a_password_and_nothing_else(process: Database, server: EmbeddedPostgres) -> None:
    other = secrets.token_urlsafe(32)
    await prepare_logins(server.url, {MIGRATOR: server.password_of(MIGRATOR), PROCESS: other})
    try:
        with pytest.raises(ConfigurationError, match="refuses the login"):
            await Database.connect(server.url_of(PROCESS), pool_size=1)
    finally:
        await admit(server)
    await (await Database.connect(server.url_of(PROCESS), pool_size=1)).close()


async def test_a_schema_that_a_superuser_made_is_carried_over(watch: Watch) -> None:
    with fresh_server(watch) as server:
        await migrate(server.url)
        superuser = await Database.connect(server.url, pool_size=1)
        await superuser.execute(
            "UPDATE schema_migration SET sha256 = decode($1, 'hex') WHERE name = '0001_first_slice.sql'",
            FORMER_TEXTS["0001_first_slice.sql"],
        )
        await superuser.execute("DELETE FROM schema_migration WHERE name = '0008_logins.sql'")
        await superuser.close()

        await admit(server)
        assert await migrate(server.url_of(MIGRATOR)) == ["0008_logins.sql"]
        process = await Database.connect(server.url_of(PROCESS), pool_size=1)
        await require_current(process)
        await test_all_that_migrations_make_belongs_to_the_owner_role(process)
        await process.close()


@pytest.mark.parametrize("rights", ["SUPERUSER", "CREATEROLE CREATEDB"])
async def test_the_documented_set_up_works_as_it_stands(watch: Watch, rights: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    block = page.partition("\n## PostgreSQL\n")[2].partition("```sql\n")[2].partition("```")[0]
    with fresh_server(watch) as server:
        superuser = await Database.connect(server.url, pool_size=1)
        await superuser.execute(f"CREATE ROLE administrator LOGIN {rights}")
        await set_password(superuser, "administrator", server)
        administrator = server.url_of("administrator")
        done = await anyio.run_process(
            [str(binaries() / "psql"), administrator, "-Xqv", "ON_ERROR_STOP=1"], input=block.encode(), check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        for login in LOGINS:
            await set_password(superuser, login, server)

        assert await migrate(at(server.url_of(MIGRATOR), "email_gateway"))
        process = await Database.connect(at(server.url_of(PROCESS), "email_gateway"), pool_size=1)
        await require_current(process)
        await test_all_that_migrations_make_belongs_to_the_owner_role(process)
        await test_neither_login_is_a_superuser_or_may_make_roles(process)
        await process.close()
        await superuser.close()


async def set_password(superuser: Database, login: str, server: EmbeddedPostgres) -> None:
    await superuser.execute(f"ALTER ROLE {login} PASSWORD '{server.password_of(login)}'")


@contextmanager
def fresh_server(watch: Watch) -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="email-gateway-logins-") as home:
        Path(home).chmod(0o755)  # the server's own user must be able to enter
        server = EmbeddedPostgres(Path(home))
        try:
            watch.add("the superuser's password", urlsplit(server.start()).password or "")
            watch.add("a login's password", *(server.password_of(login) for login in LOGINS))
            yield server
        finally:
            server.stop()
            watch.keep("postgres.log", (Path(home) / "postgres.log").read_text())
