"""Messages as they are kept, read one by one or by page."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.mail.deliveries import State
from email_gateway.store.database import Queries, Record
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("messages")


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One recipient's delivery as it stands."""

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
    found = await _complete(db, tenant_id, await db.fetch(SQL.find_messages, tenant_id, [message_id]))
    if not found:
        raise NotFound("no such email")
    return found[0]


async def list_messages(db: Queries, tenant_id: UUID, page: Page) -> tuple[list[StoredMessage], bool]:
    """Return a page of the tenant's messages, newest first, and whether there are more."""
    if page.before is not None:
        rows = await db.fetch(SQL.list_messages_before, tenant_id, page.before, page.limit + 1)
    else:
        rows = await db.fetch(SQL.list_messages_after, tenant_id, page.after, page.limit + 1)
    kept, has_more = page.cut(rows)
    return await _complete(db, tenant_id, kept), has_more


async def search_messages(
    db: Queries, tenant_id: UUID, field: str, value: bytes, index_key_id: bytes, page: Page
) -> tuple[list[StoredMessage], bool]:
    """Return the messages whose `field` has this blind value; the caller opens and compares each."""
    sql = SQL.search_after if page.before is None else SQL.search_before
    cursor = page.after if page.before is None else page.before
    rows, has_more = page.cut(await db.fetch(sql, tenant_id, field, index_key_id, value, cursor, page.limit + 1))
    ids = [row["message_id"] for row in rows]
    return await _complete(db, tenant_id, await db.fetch(SQL.find_messages, tenant_id, ids)), has_more


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
