"""Numbered SQL migrations, expand then contract: an old worker runs against a newer schema."""

import hashlib
from importlib.resources import files

from email_gateway.errors import SchemaMismatch
from email_gateway.store.database import Database, Queries
from email_gateway.store.queries import load

SQL = load("schema")


def list_migrations() -> list[tuple[str, str]]:
    """Return (name, SQL text) of every migration this release knows, in order."""
    folder = files("email_gateway.store.migrations")
    found = [
        (entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


async def migrate(url: str) -> list[str]:
    """Apply what is missing, in one transaction, and return the names applied.

    Concurrent migrators wait for each other. Raises SchemaMismatch when a migration that ran
    has since been changed: edited history means that two databases differ in silence.
    """
    db = await Database.connect(url, pool_size=1)
    try:
        async with db.transaction() as transaction:
            await transaction.execute("SET LOCAL lock_timeout = '60s'")
            await transaction.execute(SQL.lock_history)
            await transaction.execute(SQL.create_history)
            return await _apply_missing(transaction)
    finally:
        await db.close()


async def _apply_missing(transaction: Queries) -> list[str]:
    applied = {row["name"]: row["sha256"] for row in await transaction.fetch(SQL.list_applied)}
    names = []
    for name, text in list_migrations():
        digest = hashlib.sha256(text.encode()).digest()
        if name not in applied:
            await transaction.execute(text)
            await transaction.execute(SQL.add_applied, name, digest)
            names.append(name)
        elif applied[name] != digest:
            raise SchemaMismatch(f"migration {name} was changed after it ran here: restore its text")
    return names


async def require_current(db: Queries) -> None:
    """Raise SchemaMismatch unless every migration of this release has run."""
    applied = {row["name"] for row in await db.fetch(SQL.list_applied)}
    missing = [name for name, _ in list_migrations() if name not in applied]
    if missing:
        raise SchemaMismatch(f"the database lacks {', '.join(missing)}: run `email-gateway migrate`")
