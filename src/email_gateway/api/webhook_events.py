"""What was sent to a webhook, under /v1/webhooks/{id}/events: look, and send again."""

from typing import Literal
from uuid import UUID

import msgspec

from email_gateway.api.calls import Call, Reply, parse_id, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.webhook_schemas import (
    Attempt,
    AttemptList,
    WebhookEventId,
    WebhookEventList,
    WebhookEventSummary,
)
from email_gateway.errors import Fault, InvalidRequest, NotFound
from email_gateway.mail.webhooks import TEST_EVENT, WORDS
from email_gateway.store import webhook_deliveries as store
from email_gateway.store.webhook_deliveries import StoredDelivery
from email_gateway.store.webhooks import StoredWebhook, get_webhook

_ENCODE = msgspec.json.Encoder().encode


async def list_webhook_events(context: ApiContext, call: Call) -> Reply:
    """Return a page of what was sent to a webhook or waits for it, newest first."""
    page = parse_page(call.query())
    if page.before is not None:
        raise InvalidRequest("the page is not valid", (Fault("/before", "go on with after: newest come first"),))
    webhook = await _webhook(context, call)
    found = await store.list_deliveries(
        context.db, webhook.tenant_id, webhook.webhook_id, limit=page.limit + 1, after=page.after
    )
    data = [_summary(one) for one in found[: page.limit]]
    return Reply(200, _ENCODE(WebhookEventList(len(found) > page.limit, data)))


async def list_webhook_attempts(context: ApiContext, call: Call) -> Reply:
    """Return the last attempt of a delivery: what the endpoint answered, and the beginning of what it said."""
    webhook = await _webhook(context, call)
    one = await _delivery(context, call, webhook)
    if one.attempted_at is None:
        return Reply(200, _ENCODE(AttemptList([])))
    said = b""
    if one.sealed_answer is not None:
        said = await context.keyring.open(call.tenant_id, "webhook_delivery.answer", one.delivery_id, one.sealed_answer)
    attempt = Attempt(
        id=f"{one.delivery_id}-{one.attempts}",
        http_status_code=one.status or 0,
        response=said.decode("utf-8", "replace") or one.result or "",
        result=one.result,
        milliseconds=one.milliseconds,
        sent_at=one.attempted_at,
    )
    return Reply(200, _ENCODE(AttemptList([attempt])))


async def replay_webhook_event(context: ApiContext, call: Call) -> Reply:
    """Send a delivery again under its old id; one that is still under way goes on as it is."""
    webhook = await _webhook(context, call)
    one = await _delivery(context, call, webhook)
    await store.replay(context.db, webhook.tenant_id, webhook.webhook_id, delivery_id=one.delivery_id)
    return Reply(200, _ENCODE(WebhookEventId(str(one.delivery_id))))


async def _webhook(context: ApiContext, call: Call) -> StoredWebhook:
    return await get_webhook(context.db, call.tenant_id, parse_id(call.params["webhook_id"], "webhook"))


async def _delivery(context: ApiContext, call: Call, webhook: StoredWebhook) -> StoredDelivery:
    delivery_id: UUID = parse_id(call.params["event_id"], "event")
    found = await store.list_deliveries(
        context.db, webhook.tenant_id, webhook.webhook_id, limit=1, delivery_id=delivery_id
    )
    if not found:
        raise NotFound("no such event")
    return found[0]


def _summary(one: StoredDelivery) -> WebhookEventSummary:
    return WebhookEventSummary(
        id=str(one.delivery_id),
        type=WORDS.get(one.kind, TEST_EVENT),
        email_id=str(one.message_id) if one.message_id.int else None,
        created_at=one.happened_at,
        status=_status(one),
        attempts=one.attempts,
        next_attempt_at=one.next_attempt_at if one.state == "pending" else None,
    )


def _status(one: StoredDelivery) -> Literal["pending", "attempting", "success", "failed"]:
    """Return Resend's word."""
    if one.state == "pending":
        return "attempting" if one.attempts else "pending"
    return "success" if one.state == "delivered" else "failed"
