"""The pool: durable or refused, its errors in our words, its values nowhere in them."""

import pytest

from email_gateway.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, LockTimeout, SchemaMismatch
from email_gateway.store.database import Database

pytestmark = pytest.mark.anyio


async def test_a_server_whose_commit_can_be_lost_is_refused(database_url: str, db: Database) -> None:
    name = database_url.partition("?")[0].rsplit("/", 1)[1]
    await db.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(ConfigurationError, match="synchronous_commit"):
        await Database.connect(database_url)


async def test_a_wrong_password_is_a_configuration_error_without_the_password(database_url: str) -> None:
    scheme, _, rest = database_url.partition("://")
    wrong = f"{scheme}://email_gateway:not-the-password@{rest.rpartition('@')[2]}"
    with pytest.raises(ConfigurationError) as caught:
        await Database.connect(wrong)
    assert "not-the-password" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:p@127.0.0.1:notaport/db", "mysql://u:p@127.0.0.1/db"])
async def test_a_url_of_another_shape_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        await Database.connect(url)


async def test_an_absent_server_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.connect("postgresql://u:p@127.0.0.1:1/db")


async def test_a_refused_statement_names_the_constraint_and_no_value(db: Database) -> None:
    with pytest.raises(DatabaseRefused) as caught:
        await db.execute("INSERT INTO tenant (tenant_id, name) VALUES (gen_random_uuid(), $1)", "marked" * 30)
    assert caught.value.constraint == "tenant_name_is_short"
    assert "marked" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_missing_table_says_to_migrate(db: Database) -> None:
    with pytest.raises(SchemaMismatch, match="email-gateway migrate"):
        await db.fetch("SELECT * FROM not_there_yet")


async def test_a_lock_held_too_long_is_its_own_error(db: Database) -> None:
    async with db.transaction() as holder:
        await holder.execute("LOCK TABLE tenant IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LockTimeout):
            await wait_for_lock(db)


async def test_a_transaction_that_raises_leaves_nothing(db: Database) -> None:
    with pytest.raises(RuntimeError):
        await begin_and_raise(db)
    assert await db.fetch("SELECT * FROM tenant") == []


async def test_a_connection_that_dies_in_a_transaction_is_unavailable_and_replaced(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await die_in_a_transaction(db)
    assert await db.fetch("SELECT 1")


async def wait_for_lock(db: Database) -> None:
    async with db.transaction() as waiter:
        await waiter.execute("SET LOCAL lock_timeout = '20ms'")
        await waiter.fetch("SELECT * FROM tenant")


async def begin_and_raise(db: Database) -> None:
    async with db.transaction() as transaction:
        await transaction.execute("INSERT INTO tenant (tenant_id, name) VALUES (gen_random_uuid(), 'ghost')")
        raise RuntimeError


async def die_in_a_transaction(db: Database) -> None:
    async with db.transaction() as held:
        row = await held.fetch_one("SELECT pg_backend_pid() AS pid")
        assert row is not None
        await db.fetch("SELECT pg_terminate_backend($1)", row["pid"])
