"""A process that has just started opens every sealed value there is: `python -m bench.rotations.opening`.

It stands on secrets, database and keys as an api process does, and prints what it could not open.
"""

import asyncio
import json

from bench.rotations.signing import judge_signatures
from email_gateway.errors import GatewayError
from email_gateway.foundation import get_database_source
from email_gateway.observe import configure_logging
from email_gateway.secrets import SecretsService
from email_gateway.settings import load_settings
from email_gateway.store.database import Database, Queries
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots

# By the logical name of the field: table, column of the row that it is bound to, the value.
SEALED = {
    "message.content": ("message", "message_id", "whole_value(tenant_id, message_id, message_id, sealed_content)"),
    "message.tax_id": ("message", "message_id", "sealed_tax_id"),
    "message.summary": ("message", "message_id", "sealed_summary"),
    "attachment.content": (
        "attachment",
        "attachment_id",
        "whole_value(tenant_id, message_id, attachment_id, sealed_content)",
    ),
    "event.reply": ("event", "event_id", "sealed_reply"),
    "inbox.raw": ("inbox_mail", "inbox_id", "sealed_raw"),
    "domain.dkim_key": ("dkim_key", "dkim_key_id", "sealed_private_key"),
}
PAGE = 2_000


async def open_all(db: Queries, keyring: Keyring) -> dict[str, dict[str, int]]:
    """Open every value of every field, and count by field how many do and how many do not; the same of signatures."""
    return {field: await _open_field(db, keyring, field) for field in SEALED} | await judge_signatures(db, keyring)


async def _open_field(db: Queries, keyring: Keyring, field: str) -> dict[str, int]:
    table, row_id, value = SEALED[field]
    sql = f"""
        SELECT tenant_id, {row_id}, {value} FROM {table}
        WHERE $1::uuid IS NULL OR {row_id} > $1 ORDER BY {row_id} LIMIT {PAGE}"""
    after, opened, unreadable = None, 0, 0
    while rows := await db.fetch(sql, after):
        for tenant_id, row, sealed in rows:
            if sealed is None:
                continue
            try:
                await keyring.open(tenant_id, field, row, sealed)
                opened += 1
            except GatewayError:
                unreadable += 1
        after = rows[-1][1]
    return {"opened": opened, "unreadable": unreadable}


async def main() -> None:
    """Start as a process of the gateway does, open everything, print the counts."""
    settings = load_settings()
    configure_logging("json", "INFO")
    secrets = await SecretsService.start(settings)
    try:
        db = await Database.connect(get_database_source(settings, secrets).url, pool_size=2)
        try:
            keyring = await Keyring.start(db, SecretsRoots(secrets))
            print(json.dumps(await open_all(db, keyring)))
        finally:
            await db.close()
    finally:
        await secrets.close()


if __name__ == "__main__":
    asyncio.run(main())
