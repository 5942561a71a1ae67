"""Messages as they are kept, read by their ids."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.mail.deliveries import State
from email_gateway.store.database import Queries, Record
from email_gateway.store.queries import load

SQL = load("messages")


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One recipient's delivery as it stands; `is_scheduled` while it is queued and its time is to come."""

    recipient: int
    domain: str
    state: State
    phase: str | None
    attempts: int
    next_attempt_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    code: int | None
    enhanced: str | None
    scheduled_at: datetime | None
    is_scheduled: bool


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it is kept, with its deliveries and tags; the content is still sealed.

    Of a large one the summary stands here and not the content: `get_sealed_content` reads that when it is needed.
    """

    tenant_id: UUID
    message_id: UUID
    created_at: datetime
    expires_at: datetime
    sender_domain: str
    size: int
    attachment_count: int
    sealed_content: bytes | None
    sealed_summary: bytes | None
    sealed_tax_id: bytes | None
    traceparent: str | None
    deliveries: tuple[StoredDelivery, ...]
    tags: tuple[tuple[str, str], ...]

    @property
    def shown(self) -> tuple[str, UUID, bytes]:
        """What a list opens of it: (field, row, sealed value)."""
        return shown_value(self.message_id, self.sealed_content, self.sealed_summary)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One fact in a message's history; the server's reply is still sealed."""

    event_id: UUID
    recipient: int | None
    kind: str
    at: datetime
    attempt: int | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: str | None
    sealed_reply: bytes | None


async def get_message(db: Queries, tenant_id: UUID, message_id: UUID) -> StoredMessage:
    """Return one message of the tenant; raises NotFound, also for another tenant's."""
    found = await get_messages(db, tenant_id, [message_id])
    if not found:
        raise NotFound("no such email")
    return found[0]


async def get_messages(db: Queries, tenant_id: UUID, ids: list[UUID]) -> list[StoredMessage]:
    """Return those of the tenant's messages that have these ids, newest first."""
    return await _complete(db, tenant_id, await db.fetch(SQL.find_messages, tenant_id, ids)) if ids else []


async def list_events(db: Queries, tenant_id: UUID, message_id: UUID) -> list[StoredEvent]:
    """Return a message's facts, oldest first."""
    return [StoredEvent(*row) for row in await db.fetch(SQL.list_events, tenant_id, message_id)]


async def get_sealed_content(db: Queries, tenant_id: UUID, message_id: UUID) -> bytes:
    """Return a message's content, whatever its size; raises NotFound."""
    row = await db.fetch_one(SQL.get_sealed_content, tenant_id, message_id)
    if row is None:
        raise NotFound("no such email")
    content: bytes = row["sealed_content"]
    return content


async def get_sealed_attachment(db: Queries, tenant_id: UUID, message_id: UUID, attachment_id: UUID) -> bytes:
    """Return an attachment, whatever its size; raises NotFound."""
    row = await db.fetch_one(SQL.get_sealed_attachment, tenant_id, message_id, attachment_id)
    if row is None:
        raise NotFound("no such attachment")
    content: bytes = row["sealed_content"]
    return content


async def list_sealed_attachments(db: Queries, tenant_id: UUID, message_id: UUID) -> list[tuple[UUID, bytes]]:
    """Return (attachment_id, sealed value) of each attachment, in order."""
    return [tuple(row) for row in await db.fetch(SQL.list_sealed_attachments, tenant_id, message_id)]


def shown_value(message_id: UUID, content: bytes | None, summary: bytes | None) -> tuple[str, UUID, bytes]:
    """Return (field, row, sealed value) of what is shown of a message: a summary where there is one."""
    if summary is not None:
        return "message.summary", message_id, summary
    assert content is not None  # the one comes where the other is not
    return "message.content", message_id, content


async def _complete(db: Queries, tenant_id: UUID, rows: list[Record]) -> list[StoredMessage]:
    """Add deliveries and tags to message rows, in two statements whatever their number."""
    ids = [row["message_id"] for row in rows]
    if not ids:
        return []
    deliveries: dict[UUID, list[StoredDelivery]] = {message_id: [] for message_id in ids}
    tags: dict[UUID, list[tuple[str, str]]] = {message_id: [] for message_id in ids}
    for message_id, recipient, domain, state, *rest in await db.fetch(SQL.list_deliveries, tenant_id, ids):
        deliveries[message_id].append(StoredDelivery(recipient, domain, State(state), *rest))
    for message_id, name, value in await db.fetch(SQL.list_tags, tenant_id, ids):
        tags[message_id].append((name, value))
    return [
        StoredMessage(**row, deliveries=tuple(deliveries[row["message_id"]]), tags=tuple(tags[row["message_id"]]))
        for row in rows
    ]
