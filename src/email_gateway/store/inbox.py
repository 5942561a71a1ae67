"""The development inbox: mails as the `inbox` transport took them, sealed."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("inbox")


@dataclass(frozen=True, slots=True)
class InboxMail:
    """One mail, sealed under `inbox.raw` for `inbox_id`; `recipients` are places in the envelope."""

    tenant_id: UUID
    inbox_id: UUID
    message_id: UUID
    recipients: tuple[int, ...]
    sealed_raw: bytes
    size: int


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A mail in a list: everything about it but itself."""

    tenant_id: UUID
    inbox_id: UUID
    message_id: UUID
    recipients: tuple[int, ...]
    size: int
    created_at: datetime


async def add_inbox_mail(db: Queries, mail: InboxMail) -> None:
    """Keep a mail; its `inbox_id` is a UUIDv7 made by the caller, since it is bound into the seal."""
    await db.execute(
        SQL.add_mail, mail.tenant_id, mail.inbox_id, mail.message_id, list(mail.recipients), mail.sealed_raw, mail.size
    )


async def get_inbox_mail(db: Queries, tenant_id: UUID, inbox_id: UUID) -> InboxMail:
    """Return one mail of the tenant; raises NotFound, also for another tenant's."""
    row = await db.fetch_one(SQL.find_mail, tenant_id, inbox_id)
    if row is None:
        raise NotFound("no such mail in the inbox")
    tenant_id, inbox_id, message_id, recipients, sealed_raw, size = row
    return InboxMail(tenant_id, inbox_id, message_id, tuple(recipients), sealed_raw, size)


async def list_inbox_mails(db: Queries, tenant_id: UUID, *, limit: int, after: UUID | None = None) -> list[InboxEntry]:
    """Return a page of the tenant's mails, newest first; `after` an id means older ones."""
    return [
        InboxEntry(tenant, inbox_id, message_id, tuple(recipients), size, created_at)
        for tenant, inbox_id, message_id, recipients, size, created_at in await db.fetch(
            SQL.list_mails, tenant_id, after, limit
        )
    ]
