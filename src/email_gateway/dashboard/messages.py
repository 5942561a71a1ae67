"""Messages of all tenants, and one message with its timeline; personal values masked until asked for."""

from collections import Counter
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from email_gateway.dashboard.contents import clear_face, clear_replies, masked_face
from email_gateway.dashboard.forms import clean_line
from email_gateway.dashboard.rendering import fragment
from email_gateway.dashboard.visits import Visit, guarded
from email_gateway.errors import NotFound
from email_gateway.mail.deliveries import State
from email_gateway.store.accounts import list_tenants
from email_gateway.store.messages import StoredEvent, StoredMessage, get_message, list_events
from email_gateway.store.statistics import RecentFilter, find_tenant_name, list_recent

PAGE_ROWS = 25
SHORTEST_REASON = 3
LONGEST_REASON = 200
# The worst first: what a message with several recipients is shown as in the list.
STATE_ORDER = (
    State.DEAD,
    State.KEPT,
    State.BOUNCED,
    State.EXPIRED,
    State.SENDING,
    State.QUEUED,
    State.SUPPRESSED,
    State.CANCELLED,
    State.DELIVERED,
)


@guarded
async def show_list(visit: Visit) -> Response:
    """Show a page of messages, newest first."""
    values = await _rows(visit)
    return visit.page("messages.html", tenants=await list_tenants(visit.context.db), **values)


@guarded
async def live_list(visit: Visit) -> Response:
    """Answer a poll with the list's rows."""
    return fragment(visit.request, "_messages.html", **await _rows(visit))


@guarded
async def show_one(visit: Visit) -> Response:
    """Show one message with its timeline, masked."""
    return visit.page("message.html", problem=None, **await _masked(visit))


@guarded
async def live_one(visit: Visit) -> Response:
    """Answer a poll with the message's deliveries and timeline, masked."""
    return fragment(visit.request, "_message.html", **await _masked(visit))


@guarded
async def reveal(visit: Visit) -> Response:
    """Show one message with its addresses, subject, ids and replies in clear, for a reason that is recorded."""
    tenant_id, message_id = _ids(visit.request)
    reason = clean_line(visit.form.get("reason", ""), LONGEST_REASON)
    if len(reason) < SHORTEST_REASON:
        problem = "Say in a few words why you need to see this. The audit keeps it."
        return visit.page("message.html", status=422, problem=problem, **await _masked(visit))
    message = await get_message(visit.context.db, tenant_id, message_id)
    events = await list_events(visit.context.db, tenant_id, message_id)
    await visit.record("message.revealed", tenant_id=tenant_id, subject=str(message_id), reason=reason)
    face = await clear_face(visit.context, message)
    replies = await clear_replies(visit.context, tenant_id, events)
    values = await _message_values(visit, message, events)
    return visit.page("message.html", problem=None, face=face, replies=replies, **values)


async def _rows(visit: Visit) -> dict[str, Any]:
    wanted = _parse_filter(visit.request)
    messages, has_older = await list_recent(visit.context.db, wanted, limit=PAGE_ROWS)
    rows = []
    for message in messages:
        face = await masked_face(visit.context, message)
        counted = Counter(message.states)
        states = [(state, counted[state]) for state in STATE_ORDER if state in counted]
        rows.append({"message": message, "face": face, "states": states})
    return {
        "rows": rows,
        "wanted": wanted,
        "older": messages[-1].message_id if has_older else None,
        "query": visit.request.url.query,
    }


def _parse_filter(request: Request) -> RecentFilter:
    """Read the list's query; what cannot be read filters nothing."""
    state = request.query_params.get("state")
    return RecentFilter(
        before=_parse_id(request.query_params.get("before")),
        tenant_id=_parse_id(request.query_params.get("tenant")),
        state=State(state) if state in tuple(State) else None,
    )


def _parse_id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _ids(request: Request) -> tuple[UUID, UUID]:
    return request.path_params["tenant_id"], request.path_params["message_id"]


async def _masked(visit: Visit) -> dict[str, Any]:
    tenant_id, message_id = _ids(visit.request)
    message = await get_message(visit.context.db, tenant_id, message_id)
    events = await list_events(visit.context.db, tenant_id, message_id)
    face = await masked_face(visit.context, message)
    return {"face": face, "replies": {}, **await _message_values(visit, message, events)}


async def _message_values(visit: Visit, message: StoredMessage, events: list[StoredEvent]) -> dict[str, Any]:
    tenant_name = await find_tenant_name(visit.context.db, message.tenant_id)
    if tenant_name is None:
        raise NotFound("no such email")
    return {
        "message": message,
        "events": events,
        "tenant_name": tenant_name,
        "is_finished": all(delivery.finished_at for delivery in message.deliveries),
        "longest_reason": LONGEST_REASON,
    }
