"""One message's whole story by its id, under /admin/messages: for an operator, and nothing personal."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_id
from email_gateway.api.context import ApiContext
from email_gateway.store.messages import StoredEvent
from email_gateway.store.traces import Trace, TracedDelivery, trace_message


class TracedDeliveryView(msgspec.Struct, frozen=True):
    """One recipient's delivery: where it stands, what it waits for, and what happened to its workers.

    `crashes` counts workers that died while composing it, `doubts` how often a server's answer was lost.
    """

    id: Annotated[str, Meta(description="`<message id>-<position of the recipient>`.")]
    domain: str
    state: str
    phase: str | None
    attempts: int
    crashes: int
    doubts: int
    lane: Annotated[str, Meta(description="The queue it stands in; empty is the common one.")]
    next_attempt_at: datetime | None
    claim_expires_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    code: int | None
    enhanced: str | None
    waits_for: Annotated[
        str | None, Meta(description="What it waits for and what to do; null when it waits for nothing.")
    ]


class TraceEventView(msgspec.Struct, frozen=True):
    """One fact; `recipient` is a position in the envelope. The server's words stay sealed."""

    type: str
    at: datetime
    recipient: int | None
    attempt: int | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: str | None


class TraceView(msgspec.Struct, frozen=True):
    """A message's story: what was accepted, where each delivery stands, and every fact, oldest first."""

    message_id: str
    tenant_id: str
    tenant: str
    created_at: datetime
    expires_at: datetime
    sender_domain: str
    size: int
    attachments: int
    on_doubt: str
    traceparent: str | None
    deliveries: list[TracedDeliveryView]
    events: list[TraceEventView]


_ENCODE = msgspec.json.Encoder().encode


async def get_trace(context: ApiContext, call: Call) -> Reply:
    """Return a message's story, of whichever tenant."""
    return Reply(
        200, _ENCODE(trace_view(await trace_message(context.db, parse_id(call.params["message_id"], "email"))))
    )


def trace_view(trace: Trace) -> TraceView:
    """Return a trace as it is answered."""
    return TraceView(
        message_id=str(trace.message_id),
        tenant_id=str(trace.tenant_id),
        tenant=trace.tenant,
        created_at=trace.created_at,
        expires_at=trace.expires_at,
        sender_domain=trace.sender_domain,
        size=trace.size,
        attachments=trace.attachment_count,
        on_doubt=trace.on_doubt,
        traceparent=trace.traceparent,
        deliveries=[
            _delivery_view(trace, delivery, waits_for)
            for delivery, waits_for in zip(trace.deliveries, trace.waits_for, strict=True)
        ],
        events=[_event_view(event) for event in trace.events],
    )


def _delivery_view(trace: Trace, delivery: TracedDelivery, waits_for: str | None) -> TracedDeliveryView:
    return TracedDeliveryView(
        id=f"{trace.message_id}-{delivery.recipient}",
        domain=delivery.domain,
        state=delivery.state,
        phase=delivery.phase,
        attempts=delivery.attempts,
        crashes=delivery.crashes,
        doubts=delivery.doubts,
        lane=delivery.lane,
        next_attempt_at=delivery.next_attempt_at if delivery.state == "queued" else None,
        claim_expires_at=delivery.claim_expires_at,
        finished_at=delivery.finished_at,
        reason=delivery.reason,
        code=delivery.code,
        enhanced=delivery.enhanced,
        waits_for=waits_for,
    )


def _event_view(event: StoredEvent) -> TraceEventView:
    return TraceEventView(
        event.kind, event.at, event.recipient, event.attempt, event.stage, event.reason, event.code, event.enhanced
    )
