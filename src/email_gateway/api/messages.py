"""Reading messages back: one, and its history."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec

from email_gateway.api.calls import Call, Reply, parse_id
from email_gateway.api.context import ApiContext
from email_gateway.api.schemas import (
    DeliveryView,
    EmailSummary,
    EmailView,
    EventList,
    EventView,
    PersonView,
    Tag,
)
from email_gateway.mail.addresses import show_address
from email_gateway.mail.content import Content
from email_gateway.mail.deliveries import State
from email_gateway.mail.tax_ids import TaxId, unpack_tax_id
from email_gateway.store.messages import (
    StoredDelivery,
    StoredEvent,
    StoredMessage,
    get_message,
    get_sealed_content,
    list_events,
)

OFF_LOOP_BYTES = 64 * 1024

_CONTENT = msgspec.msgpack.Decoder(Content)
_ENCODE = msgspec.json.Encoder().encode

# Resend's words. Of several deliveries the least finished counts, then the worst. Mail that is kept has
# failed to leave: a caller that waits for `delivered` must not wait on, nor find a word its SDK does not know.
LAST_EVENTS: tuple[tuple[frozenset[State], str], ...] = (
    (frozenset({State.QUEUED, State.SENDING}), "queued"),
    (frozenset({State.DEAD, State.EXPIRED, State.KEPT}), "failed"),
    (frozenset({State.BOUNCED}), "bounced"),
    (frozenset({State.SUPPRESSED}), "suppressed"),
    (frozenset({State.CANCELLED}), "canceled"),
    (frozenset({State.DELIVERED}), "delivered"),
)


async def get_email(context: ApiContext, call: Call) -> Reply:
    """Return one message with its bodies and deliveries."""
    message_id = parse_id(call.params["email_id"], "email")
    async with context.db.transaction() as transaction:
        message = await get_message(transaction, call.tenant_id, message_id)
    if message.sealed_summary is None:
        return _reply(message, *await open_message(context, message))
    call.hold(message.size)  # the answer is in memory until the caller has taken it
    async with call.budget.at_work:
        sealed = await get_sealed_content(context.db, message.tenant_id, message.message_id)
        content, tax_id = await open_message(context, replace(message, sealed_content=sealed, sealed_summary=None))
        return await asyncio.to_thread(_reply, message, content, tax_id)


async def list_email_events(context: ApiContext, call: Call) -> Reply:
    """Return a message's history, oldest first."""
    message_id = parse_id(call.params["email_id"], "email")
    async with context.db.transaction() as transaction:
        message = await get_message(transaction, call.tenant_id, message_id)
        events = await list_events(transaction, call.tenant_id, message_id)
    content, _ = await open_message(context, message)
    return Reply(200, _ENCODE(EventList([await _event(context, message, content, event) for event in events])))


def last_event(states: list[State], *, is_scheduled: bool = False) -> str:
    """Return one word for several deliveries; `is_scheduled` where all that is unfinished is to leave later."""
    if is_scheduled:
        return "scheduled"
    return next(word for chosen, word in LAST_EVENTS if any(state in chosen for state in states))


def _reply(message: StoredMessage, content: Content, tax_id: TaxId | None) -> Reply:
    view = EmailView(
        **_summary(message, content, tax_id),
        html=content.html,
        text=content.text,
        expires_at=message.expires_at,
        size=message.size,
        attachment_count=message.attachment_count,
        traceparent=message.traceparent,
    )
    return Reply(200, _ENCODE(view))


async def open_message(context: ApiContext, message: StoredMessage) -> tuple[Content, TaxId | None]:
    """Open what stands in the message: its content, or the summary of a large one, which has no bodies."""
    packed = await context.keyring.open(message.tenant_id, *message.shown)
    content = (
        await asyncio.to_thread(_CONTENT.decode, packed) if len(packed) > OFF_LOOP_BYTES else _CONTENT.decode(packed)
    )
    if message.sealed_tax_id is None:
        return content, None
    tax_id = await context.keyring.open(message.tenant_id, "message.tax_id", message.message_id, message.sealed_tax_id)
    return content, unpack_tax_id(tax_id)


def view_message(message: StoredMessage, content: Content, tax_id: TaxId | None) -> EmailSummary:
    return EmailSummary(**_summary(message, content, tax_id))


def _summary(message: StoredMessage, content: Content, tax_id: TaxId | None) -> dict[str, Any]:
    has_person = tax_id is not None or content.person_name is not None or content.external_id is not None
    return {
        "id": str(message.message_id),
        "message_id": f"<{message.message_id}@{content.sender.domain}>",
        "sender": show_address(content.sender),
        "to": [show_address(address) for address in content.to],
        "cc": [show_address(address) for address in content.cc],
        "bcc": [show_address(address) for address in content.bcc],
        "reply_to": [show_address(address) for address in content.reply_to],
        "subject": content.subject,
        "created_at": message.created_at,
        "scheduled_at": next((one.scheduled_at for one in message.deliveries if one.scheduled_at is not None), None),
        "last_event": last_event(
            [delivery.state for delivery in message.deliveries],
            is_scheduled=any(delivery.is_scheduled for delivery in message.deliveries),
        ),
        "tags": [Tag(name, value) for name, value in message.tags],
        "deliveries": [_delivery(delivery, content) for delivery in message.deliveries],
        "person": PersonView(tax_id.masked if tax_id else None, content.person_name, content.external_id)
        if has_person
        else None,
    }


def _delivery(delivery: StoredDelivery, content: Content) -> DeliveryView:
    return DeliveryView(
        recipient=content.envelope[delivery.recipient],
        state="scheduled" if delivery.is_scheduled else delivery.state.value,
        attempts=delivery.attempts,
        next_attempt_at=delivery.next_attempt_at,
        finished_at=delivery.finished_at,
        reason=delivery.reason,
        code=delivery.code,
    )


async def _event(context: ApiContext, message: StoredMessage, content: Content, event: StoredEvent) -> EventView:
    reply = None
    if event.sealed_reply is not None:
        opened = await context.keyring.open(message.tenant_id, "event.reply", event.event_id, event.sealed_reply)
        reply = opened.decode("utf-8", "replace")
    return EventView(
        id=str(event.event_id),
        type=event.kind,
        created_at=event.at,
        recipient=None if event.recipient is None else content.envelope[event.recipient],
        attempt=event.attempt,
        stage=event.stage,
        reason=event.reason,
        code=event.code,
        enhanced=event.enhanced,
        reply=reply,
    )
