"""One message's whole story, for an operator who has only its id: facts, deliveries, events; nothing personal."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.mail.advice import dead_advice, lane_name, queued_advice, scheduled_advice
from email_gateway.mail.deliveries import COMMON_LANE, State, destination_lane, sender_lane
from email_gateway.store.database import Queries, Record
from email_gateway.store.holds import list_lanes
from email_gateway.store.messages import StoredEvent, list_events
from email_gateway.store.pace import Temper
from email_gateway.store.queries import load
from email_gateway.store.waiting import advice_for, why_held

SQL = load("traces")


@dataclass(frozen=True, slots=True)
class TracedDelivery:
    """A delivery as it stands. `crashes` counts the workers that died while composing it, `doubts` the answers lost."""

    recipient: int
    domain: str
    state: State
    phase: str | None
    attempts: int
    crashes: int
    doubts: int
    lane: str
    next_attempt_at: datetime | None
    claim_expires_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    code: int | None
    enhanced: str | None
    scheduled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Trace:
    """The story; `waits_for` says of each delivery, in its order, what it waits for and what to do, or None."""

    tenant_id: UUID
    tenant: str
    message_id: UUID
    created_at: datetime
    expires_at: datetime
    sender_domain: str
    size: int
    attachment_count: int
    on_doubt: str
    traceparent: str | None
    deliveries: tuple[TracedDelivery, ...]
    waits_for: tuple[str | None, ...]
    events: tuple[StoredEvent, ...]


async def trace_message(db: Queries, message_id: UUID) -> Trace:
    """Return the story of a message of any tenant; raises NotFound."""
    row = await db.fetch_one(SQL.find_message, message_id)
    if row is None:
        raise NotFound("no such email")
    tenant_id, sender_domain = row["tenant_id"], row["sender_domain"]
    rows = await db.fetch(SQL.list_deliveries, tenant_id, message_id)
    deliveries = tuple(_delivery(one) for one in rows)
    sender = sender_lane(tenant_id, sender_domain)
    names = [COMMON_LANE, sender, *(destination_lane(one.domain) for one in deliveries)]
    lanes = await list_lanes(db, names)
    return Trace(
        tenant_id=tenant_id,
        tenant=row["tenant"],
        message_id=message_id,
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        sender_domain=sender_domain,
        size=row["size"],
        attachment_count=row["attachment_count"],
        on_doubt=row["on_doubt"],
        traceparent=row["traceparent"],
        deliveries=deliveries,
        waits_for=tuple(_waits_for(one, sender, lanes, row["now"]) for one in deliveries),
        events=tuple(await list_events(db, tenant_id, message_id)),
    )


def _delivery(row: Record) -> TracedDelivery:
    recipient, domain, state, *rest = row
    return TracedDelivery(recipient, domain, State(state), *rest)


def _waits_for(delivery: TracedDelivery, sender: str, lanes: list[Temper], now: datetime) -> str | None:
    """Say what a delivery waits for; of several holds an operator's first, as they are listed."""
    if delivery.state is State.DEAD:
        return dead_advice(delivery.reason)
    if delivery.state is not State.QUEUED or delivery.next_attempt_at is None:
        return None
    if delivery.scheduled_at is not None and delivery.scheduled_at > now:
        return scheduled_advice(delivery.scheduled_at)
    own = {COMMON_LANE, sender, destination_lane(delivery.domain)}
    held = next((lane for lane in lanes if lane.lane in own and lane.is_held), None)
    if held is not None:
        return f"{lane_name(held.route, held.lane)} is held ({why_held(held)}). {advice_for(held)}"
    return queued_advice(delivery.lane, delivery.next_attempt_at, now, delivery.reason)
