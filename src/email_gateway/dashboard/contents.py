"""Opening sealed contents for a page: masked for a list, in clear for an operator who gave a reason."""

from dataclasses import dataclass
from uuid import UUID

import msgspec

from email_gateway.dashboard.context import DashboardContext
from email_gateway.dashboard.masking import DOTS, mask_address, mask_text, show_address
from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.mail.content import Content
from email_gateway.store.messages import StoredEvent, StoredMessage
from email_gateway.store.statistics import RecentMessage

DECODER = msgspec.msgpack.Decoder(Content)
TAX_ID_KINDS = {1: "CPF", 2: "CNPJ"}


@dataclass(frozen=True, slots=True)
class Face:
    """What a page shows of a message's content: each line already masked, or already in clear."""

    is_clear: bool
    sender: str
    recipients: tuple[str, ...]
    subject: str
    more: tuple[tuple[str, str], ...] = ()


async def open_shown(context: DashboardContext, message: StoredMessage | RecentMessage) -> Content:
    """Open what is shown of a message; raises Tampered and KeyUnavailable."""
    return DECODER.decode(await context.keyring.open(message.tenant_id, *message.shown))


async def masked_face(context: DashboardContext, message: StoredMessage | RecentMessage) -> Face:
    """Return the masked content; where it cannot be opened, dots alone, for the list must stand."""
    try:
        content = await open_shown(context, message)
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
    content = await open_shown(context, message)
    more = list(_more(content))
    if message.sealed_tax_id is not None:
        tax_id = await context.keyring.open(
            message.tenant_id, "message.tax_id", message.message_id, message.sealed_tax_id
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
            clear = await context.keyring.open(tenant_id, "event.reply", event.event_id, event.sealed_reply)
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
