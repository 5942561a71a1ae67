"""Numbered SQL migrations, expand then contract: an old worker runs against a newer schema."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files

from email_gateway.errors import ConfigurationError, DatabaseRefused, SchemaMismatch
from email_gateway.store.connecting import MakePassword
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.queries import load

SQL = load("schema")

# Another text that a migration ran with once, and that left the same schema: the first one failed where the
# roles were there already and whoever migrated may not make any.
FORMER_TEXTS = {"0001_first_slice.sql": "e2edd7c56c7599ab475378ef0803abf7ab75ff27bea1bccd4e04b75bad5b1464"}
INSUFFICIENT_PRIVILEGE = "42501"


def list_migrations() -> list[tuple[str, str]]:
    """Return (name, SQL text) of every migration this release knows, in order."""
    folder = files("email_gateway.store.migrations")
    found = [
        (entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


async def migrate(url: str, make_password: MakePassword | None = None) -> list[str]:
    """Apply what is missing, in one transaction, and return the names applied.

    Concurrent migrators wait for each other. Where nothing is missing, nothing is written, so that
    any login will do. Raises SchemaMismatch when a migration that ran has since been changed:
    edited history means that two databases differ in silence. Raises ConfigurationError when
    something is missing and this login may not change the schema.
    """
    db = await Database.connect(url, pool_size=1, make_password=make_password)
    try:
        if await _is_current(db):
            return []
        async with db.transaction() as transaction:
            await transaction.execute("SET LOCAL lock_timeout = '60s'")
            await transaction.execute(SQL.lock_history)
            await transaction.execute(SQL.create_history)
            names = _find_missing(await transaction.fetch(SQL.list_applied))
            texts = dict(list_migrations())
            for name in names:
                await transaction.execute(texts[name])
                await transaction.execute(SQL.add_applied, name, _digest(texts[name]))
            return names
    except DatabaseRefused as refused:
        if refused.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        raise ConfigurationError(
            "this login may not change the schema: run `email-gateway migrate` with a member of email_gateway_owner"
            " (docs/settings.md, under PostgreSQL)"
        ) from None
    finally:
        await db.close()


async def _is_current(db: Queries) -> bool:
    try:
        return not _find_missing(await db.fetch(SQL.list_applied))
    except SchemaMismatch:
        return False  # no history yet, or one that is told apart under the lock


def _find_missing(applied_rows: Sequence[Record]) -> list[str]:
    applied = {row["name"]: row["sha256"] for row in applied_rows}
    for name, text in list_migrations():
        known = (_digest(text), bytes.fromhex(FORMER_TEXTS.get(name, "")))
        if name in applied and applied[name] not in known:
            raise SchemaMismatch(f"migration {name} was changed after it ran here: restore its text")
    return [name for name, _ in list_migrations() if name not in applied]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def require_current(db: Queries) -> None:
    """Raise SchemaMismatch unless every migration of this release has run."""
    applied = {row["name"] for row in await db.fetch(SQL.list_applied)}
    missing = [name for name, _ in list_migrations() if name not in applied]
    if missing:
        raise SchemaMismatch(f"the database lacks {', '.join(missing)}: run `email-gateway migrate`")
