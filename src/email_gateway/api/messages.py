"""Reading messages back: one, a page, the history, and the search for a person."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from email_gateway.api.calls import Call, Reply, make_page, parse_id, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.schemas import (
    DeliveryView,
    EmailList,
    EmailSummary,
    EmailView,
    EventList,
    EventView,
    PersonView,
    SearchEmails,
    Tag,
)
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.addresses import canonical_address, show_address
from email_gateway.mail.content import Content
from email_gateway.mail.deliveries import State
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.search_terms import canonical_external_id
from email_gateway.mail.tax_ids import TaxId, parse_tax_id, unpack_tax_id
from email_gateway.store.audit import add_audit
from email_gateway.store.messages import (
    StoredDelivery,
    StoredEvent,
    StoredMessage,
    get_message,
    get_sealed_content,
    list_events,
    list_messages,
    search_messages,
)

OFF_LOOP_BYTES = 64 * 1024

_CONTENT = msgspec.msgpack.Decoder(Content)
_SEARCH = BodyDecoder[SearchEmails](SearchEmails)
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
    message = await get_message(context.db, call.tenant_id, parse_id(call.params["email_id"], "email"))
    if message.sealed_summary is None:
        return _reply(message, *await _open(context, message))
    call.hold(message.size)  # the answer is in memory until the caller has taken it
    async with call.budget.at_work:
        sealed = await get_sealed_content(context.db, message.tenant_id, message.message_id)
        content, tax_id = await _open(context, replace(message, sealed_content=sealed, sealed_summary=None))
        return await asyncio.to_thread(_reply, message, content, tax_id)


async def list_emails(context: ApiContext, call: Call) -> Reply:
    """Return a page of messages, newest first, without their bodies."""
    page = parse_page(call.query())
    messages, has_more = await list_messages(context.db, call.tenant_id, page)
    return Reply(200, _ENCODE(EmailList(has_more, [_view(m, *await _open(context, m)) for m in messages])))


async def list_email_events(context: ApiContext, call: Call) -> Reply:
    """Return a message's history, oldest first."""
    message = await get_message(context.db, call.tenant_id, parse_id(call.params["email_id"], "email"))
    content, _ = await _open(context, message)
    events = await list_events(context.db, message.tenant_id, message.message_id)
    return Reply(200, _ENCODE(EventList([await _event(context, message, content, event) for event in events])))


async def search_emails(context: ApiContext, call: Call) -> Reply:
    """Return a page of the messages about a person; every search leaves an audit row."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _SEARCH.decode(body)
    field, kind, canonical, is_hit = _criterion(wanted)
    keys = await context.keyring.tenant(call.tenant_id)
    page = make_page(wanted.limit, wanted.after, wanted.before)
    async with context.db.transaction() as transaction:
        await add_audit(
            transaction,
            actor=f"api_key:{_key_id(call)}",
            action="emails.searched",
            tenant_id=call.tenant_id,
            subject=field,
        )
        messages, has_more = await search_messages(
            transaction, call.tenant_id, field, keys.blind(field, kind, canonical), keys.index_key_id, page
        )
    data = []
    for message in messages:
        content, tax_id = await _open(context, message)
        if is_hit(content, tax_id):  # a blind value is 16 bytes of a hash: a hit is proven by what it names
            data.append(_view(message, content, tax_id))
    return Reply(200, _ENCODE(EmailList(has_more, data)))


def last_event(states: list[State]) -> str:
    """Return one word for several deliveries."""
    return next(word for chosen, word in LAST_EVENTS if any(state in chosen for state in states))


def _reply(message: StoredMessage, content: Content, tax_id: TaxId | None) -> Reply:
    view = EmailView(
        **_summary(message, content, tax_id),
        html=content.html,
        text=content.text,
        expires_at=message.expires_at,
        size=message.size,
        attachment_count=message.attachment_count,
    )
    return Reply(200, _ENCODE(view))


async def _open(context: ApiContext, message: StoredMessage) -> tuple[Content, TaxId | None]:
    """Open what stands in the message: its content, or the summary of a large one, which has no bodies."""
    packed = await context.keyring.open(message.tenant_id, *message.shown)
    content = (
        await asyncio.to_thread(_CONTENT.decode, packed) if len(packed) > OFF_LOOP_BYTES else _CONTENT.decode(packed)
    )
    if message.sealed_tax_id is None:
        return content, None
    tax_id = await context.keyring.open(message.tenant_id, "message.tax_id", message.message_id, message.sealed_tax_id)
    return content, unpack_tax_id(tax_id)


def _view(message: StoredMessage, content: Content, tax_id: TaxId | None) -> EmailSummary:
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
        "last_event": last_event([delivery.state for delivery in message.deliveries]),
        "tags": [Tag(name, value) for name, value in message.tags],
        "deliveries": [_delivery(delivery, content) for delivery in message.deliveries],
        "person": PersonView(tax_id.masked if tax_id else None, content.person_name, content.external_id)
        if has_person
        else None,
    }


def _delivery(delivery: StoredDelivery, content: Content) -> DeliveryView:
    return DeliveryView(
        recipient=content.envelope[delivery.recipient],
        state=delivery.state.value,
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


def _criterion(wanted: SearchEmails) -> tuple[str, int, bytes, Callable[[Content, TaxId | None], bool]]:
    """Return the field, kind and canonical form to look for, and how to prove a hit."""
    given = [name for name in ("tax_id", "address", "external_id") if getattr(wanted, name) is not None]
    if len(given) != 1:
        raise InvalidRequest("the search is not valid", (Fault("", "give one of tax_id, address and external_id"),))
    try:
        if wanted.tax_id is not None:
            sought = parse_tax_id(wanted.tax_id)
            return "tax_id", sought.kind, sought.canonical.encode(), lambda _, tax_id: tax_id == sought
        if wanted.address is not None:
            address = canonical_address(wanted.address)
            return "address", 0, address, lambda content, _: address in map(canonical_address, content.envelope)
    except InvalidValue as error:
        raise InvalidRequest("the search is not valid", (Fault(f"/{given[0]}", str(error)),)) from None
    external_id = canonical_external_id(wanted.external_id or "")
    return "external_id", 0, external_id.encode(), lambda content, _: content.external_id == external_id


def _key_id(call: Call) -> str:
    return str(call.account.api_key_id) if call.account is not None else "none"
