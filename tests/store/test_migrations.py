"""Migrations: once each, one migrator at a time, edited history refused."""

import asyncio

import pytest

from email_gateway.errors import DatabaseRefused, SchemaMismatch
from email_gateway.store.database import Database
from email_gateway.store.migrations import list_migrations, migrate, require_current

pytestmark = pytest.mark.anyio


async def test_migrating_twice_applies_nothing_the_second_time(database_url: str) -> None:
    assert await migrate(database_url) == []


async def test_concurrent_migrators_wait_for_each_other(database_url: str, db: Database) -> None:
    await db.execute("DROP SCHEMA public CASCADE")
    await db.execute("CREATE SCHEMA public")
    applied = await asyncio.gather(*(migrate(database_url) for _ in range(3)))
    assert sorted(map(len, applied)) == [0, 0, len(list_migrations())]


async def test_edited_history_is_refused(database_url: str, db: Database) -> None:
    await db.execute("UPDATE schema_migration SET sha256 = '\\x00'")
    with pytest.raises(SchemaMismatch, match="was changed after it ran"):
        await migrate(database_url)


async def test_an_older_schema_names_what_is_missing(db: Database) -> None:
    await require_current(db)
    await db.execute("DELETE FROM schema_migration")
    with pytest.raises(SchemaMismatch, match="0001"):
        await require_current(db)


@pytest.mark.parametrize("table", ["audit", "crypto_tombstone"])
async def test_append_only_tables_refuse_change(db: Database, table: str) -> None:
    with pytest.raises(DatabaseRefused):
        await db.execute(f"DELETE FROM {table}")


async def test_the_service_may_read_the_books_and_write_what_is_kept(db: Database) -> None:
    rows = await db.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = 'email_gateway_service' AND table_name IN ('conservation', 'daily_total')"
    )
    granted = {tuple(row) for row in rows}
    assert {("conservation", "SELECT"), ("daily_total", "INSERT"), ("daily_total", "UPDATE")} <= granted


async def test_the_three_roles_exist_and_cannot_log_in(db: Database) -> None:
    rows = await db.fetch("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'email_gateway\\_%' ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("email_gateway_owner", False),
        ("email_gateway_service", False),
        ("email_gateway_tenant", False),
    ]
