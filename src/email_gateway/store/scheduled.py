"""Messages that are to be sent later: moved or cancelled by their caller, as long as no worker has taken them."""

from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound, NotScheduled
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("scheduled")


async def reschedule(db: Queries, tenant_id: UUID, message_id: UUID, to: datetime) -> None:
    """Have a scheduled message leave at another time, or at once when that has passed; its lifetime begins then.

    One statement: a worker that claims at the same moment either finds the new time or has the message already.
    Raises NotFound, also for another tenant's message, and NotScheduled when it is too late.
    """
    await _change(db, SQL.reschedule, tenant_id, message_id, to)


async def cancel_scheduled(db: Queries, tenant_id: UUID, message_id: UUID) -> None:
    """End every delivery of a scheduled message as cancelled; raises as `reschedule` does."""
    await _change(db, SQL.cancel, tenant_id, message_id)


async def _change(db: Queries, sql: str, tenant_id: UUID, message_id: UUID, *arguments: object) -> None:
    row = await db.fetch_one(sql, tenant_id, message_id, *arguments)
    assert row is not None  # an aggregate returns one row
    if row["changed"]:
        return
    if await db.fetch_one(SQL.find_message, tenant_id, message_id) is None:
        raise NotFound("no such email")
    raise NotScheduled("the email is not scheduled, or no longer: its time has come, or it was cancelled")
