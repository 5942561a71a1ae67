"""The files of messages as they are kept: listed by what is known of them, read one by one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("attachments")


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """What stands beside a sealed file; `size` is of the file. One of a release before has no summary."""

    tenant_id: UUID
    message_id: UUID
    attachment_id: UUID
    size: int
    sealed_summary: bytes | None


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to read one file until `expires_at`, given to whoever used this API key."""

    tenant_id: UUID
    message_id: UUID
    attachment_id: UUID
    api_key_id: UUID
    expires_at: datetime


async def list_attachments(db: Queries, tenant_id: UUID, message_id: UUID) -> list[StoredAttachment]:
    """Return a message's files in their order; raises NotFound, also for another tenant's message."""
    rows = await db.fetch(SQL.list_attachments, tenant_id, message_id)
    if not rows:
        raise NotFound("no such email")
    return [StoredAttachment(*row) for row in rows if row["attachment_id"] is not None]


async def get_attachment(db: Queries, tenant_id: UUID, message_id: UUID, attachment_id: UUID) -> StoredAttachment:
    """Return one file of a message; raises NotFound, also for another tenant's."""
    row = await db.fetch_one(SQL.find_attachment, tenant_id, message_id, attachment_id)
    if row is None:
        raise NotFound("no such attachment")
    return StoredAttachment(*row)


async def get_granted_attachment(db: Queries, grant: Grant) -> StoredAttachment:
    """Return the file of a grant; raises NotFound once its API key or its tenant is no longer good."""
    row = await db.fetch_one(SQL.find_granted, grant.tenant_id, grant.message_id, grant.attachment_id, grant.api_key_id)
    if row is None:
        raise NotFound("no such attachment")
    return StoredAttachment(*row)
