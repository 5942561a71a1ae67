"""Messages in a real PostgreSQL: accepted together, replayed by key, read by page."""

import uuid

import pytest
from uuid_utils.compat import uuid7

from email_gateway.errors import NotFound
from email_gateway.store.accepting import Acceptor, NewAttachment
from email_gateway.store.database import Database
from email_gateway.store.messages import (
    get_message,
    get_sealed_content,
    list_events,
    list_messages,
    list_sealed_attachments,
    search_messages,
)
from email_gateway.store.pages import Page
from tests.makers import INDEX_KEY, SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

KEY, OTHER_KEY = bytes(range(16)), bytes(16)
BODY, OTHER_BODY = bytes(32), b"\1" * 32


async def count(db: Database, table: str) -> int:
    rows = await db.fetch(f"SELECT count(*) AS n FROM {table}")
    return int(rows[0]["n"])


async def test_an_accepted_message_is_stored_with_its_delivery_event_and_index(
    db: Database, tenant_id: uuid.UUID
) -> None:
    attachment = NewAttachment(uuid7(), SEALED, 5)
    message = new_message(
        domains=("a.example", "b.example"),
        tags=(("kind", "invoice"),),
        attachments=(attachment,),
        blind=((INDEX_KEY, "address", b"\2" * 16),),
    )
    accepted = await Acceptor(db).accept(new_request(tenant_id, message))
    stored = await get_message(db, tenant_id, message.message_id)
    assert not accepted.is_replay
    assert [delivery.domain for delivery in stored.deliveries] == ["a.example", "b.example"]
    assert stored.tags == (("kind", "invoice"),)
    assert await list_sealed_attachments(db, tenant_id, message.message_id) == [(attachment.attachment_id, SEALED)]
    assert await get_sealed_content(db, tenant_id, message.message_id) == SEALED
    assert [event.kind for event in await list_events(db, tenant_id, message.message_id)] == ["accepted"]
    found, has_more = await search_messages(db, tenant_id, "address", b"\2" * 16, INDEX_KEY, Page())
    assert [hit.message_id for hit in found] == [message.message_id]
    assert not has_more


async def test_a_message_of_another_tenant_is_not_found(db: Database, tenant_id: uuid.UUID) -> None:
    message = new_message()
    await Acceptor(db).accept(new_request(tenant_id, message))
    with pytest.raises(NotFound):
        await get_message(db, uuid.uuid4(), message.message_id)


async def test_pages_run_both_ways_and_say_whether_there_is_more(db: Database, tenant_id: uuid.UUID) -> None:
    messages = [new_message() for _ in range(5)]
    for message in messages:
        await Acceptor(db).accept(new_request(tenant_id, message))
    ids = [message.message_id for message in reversed(messages)]
    first, more = await list_messages(db, tenant_id, Page(limit=2))
    assert ([m.message_id for m in first], more) == (ids[:2], True)
    last, more = await list_messages(db, tenant_id, Page(limit=3, after=ids[1]))
    assert ([m.message_id for m in last], more) == (ids[2:], False)
    back, more = await list_messages(db, tenant_id, Page(limit=2, before=ids[3]))
    assert ([m.message_id for m in back], more) == (ids[1:3], True)
