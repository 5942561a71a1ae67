"""Opening sealed contents for a page: masked for a list, in clear for an operator who gave a reason."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import msgspec

from email_gateway.dashboard.context import DashboardContext
from email_gateway.dashboard.masking import DOTS, mask_address, mask_text, show_address
from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.mail.content import Content
from email_gateway.store.messages import StoredEvent, StoredMessage

DECODER = msgspec.msgpack.Decoder(Content)
LARGE = 64 * 1024
TAX_ID_KINDS = {1: "CPF", 2: "CNPJ"}


@dataclass(frozen=True, slots=True)
class Face:
    """What a page shows of a message's content: each line already masked, or already in clear."""

    is_clear: bool
    sender: str
    recipients: tuple[str, ...]
    subject: str
    more: tuple[tuple[str, str], ...] = ()


async def open_sealed(context: DashboardContext, tenant_id: UUID, field: str, row_id: UUID, sealed: bytes) -> bytes:
    """Open any sealed value, a large one off the event loop; raises Tampered and KeyUnavailable."""
    if len(sealed) > LARGE:
        # None: its key is yet to be loaded, which the loop does.
        clear = await asyncio.to_thread(context.keyring.open_now, tenant_id, field, row_id, sealed)
        if clear is not None:
            return clear
    return await context.keyring.open(tenant_id, field, row_id, sealed)


async def open_content(context: DashboardContext, tenant_id: UUID, message_id: UUID, sealed: bytes) -> Content:
    """Open a message's content; raises Tampered and KeyUnavailable."""
    clear = await open_sealed(context, tenant_id, "message.content", message_id, sealed)
    # A large one takes long enough to hold up every other request of the process.
    return await asyncio.to_thread(DECODER.decode, clear) if len(clear) > LARGE else DECODER.decode(clear)


async def masked_face(context: DashboardContext, tenant_id: UUID, message_id: UUID, sealed: bytes | None) -> Face:
    """Return the masked content; where it cannot be opened, dots alone, for the list must stand."""
    if sealed is None:
        return Face(False, DOTS, (), DOTS)
    try:
        content = await open_content(context, tenant_id, message_id, sealed)
    except (Tampered, KeyUnavailable):
        return Face(False, DOTS, (), DOTS)
    return Face(
        is_clear=False,
        sender=mask_address(content.sender.email),
        recipients=tuple(mask_address(address) for address in content.envelope),
        subject=mask_text(content.subject),
        more=tuple((name, mask_text(value)) for name, value in _more(content)),
    )


async def clear_face(context: DashboardContext, message: StoredMessage) -> Face:
    """Return who wrote to whom about what, in clear; never the body. The caller has recorded it."""
    content = await open_content(context, message.tenant_id, message.message_id, message.whole_content)
    more = list(_more(content))
    if message.sealed_tax_id is not None:
        tax_id = await open_sealed(
            context, message.tenant_id, "message.tax_id", message.message_id, message.sealed_tax_id
        )
        more.append(_read_tax_id(tax_id))
    return Face(
        is_clear=True,
        sender=show_address(content.sender),
        recipients=content.envelope,
        subject=content.subject,
        more=tuple(more),
    )


async def clear_replies(context: DashboardContext, tenant_id: UUID, events: list[StoredEvent]) -> dict[UUID, str]:
    """Return what the servers answered, by event; a reply that does not open says so."""
    replies = {}
    for event in events:
        if event.sealed_reply is None:
            continue
        try:
            clear = await open_sealed(context, tenant_id, "event.reply", event.event_id, event.sealed_reply)
            replies[event.event_id] = clear.decode(errors="replace")
        except (Tampered, KeyUnavailable):
            replies[event.event_id] = "(this reply does not open)"
    return replies


def _more(content: Content) -> list[tuple[str, str]]:
    """List what else is personal, as (label, value) pairs, the absent left out."""
    shown = [
        ("Reply to", ", ".join(map(show_address, content.reply_to))),
        ("Person", content.person_name or ""),
        ("External id", content.external_id or ""),
    ]
    return [(label, value) for label, value in shown if value]


def _read_tax_id(clear: bytes) -> tuple[str, str]:
    """Return the kind and the number: one kind byte, one length byte, ASCII padded with zeros."""
    kind, length = clear[0], clear[1]
    return TAX_ID_KINDS.get(kind, "Tax id"), clear[2 : 2 + length].decode("ascii", errors="replace")
