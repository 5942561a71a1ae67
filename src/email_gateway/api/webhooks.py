"""Webhooks under /v1/webhooks, in Resend's JSON: create, read, change, rotate the secret, delete."""

from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from email_gateway.api.calls import Call, Reply, parse_id, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.intake import Findings
from email_gateway.api.webhook_schemas import (
    CreateWebhook,
    UpdateWebhook,
    WebhookDeleted,
    WebhookId,
    WebhookList,
    WebhookSecret,
    WebhookSummary,
    WebhookView,
)
from email_gateway.errors import InvalidRequest
from email_gateway.mail.webhooks import Endpoint, new_secret, parse_endpoint, parse_events
from email_gateway.store import webhooks as store
from email_gateway.store.webhooks import SealedEndpoint, StoredWebhook

_CREATE = BodyDecoder[CreateWebhook](CreateWebhook)
_UPDATE = BodyDecoder[UpdateWebhook](UpdateWebhook)
_ENCODE = msgspec.json.Encoder().encode


async def create_webhook(context: ApiContext, call: Call) -> Reply:
    """Make a webhook; its secret verifies what is sent there."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _CREATE.decode(body)
    endpoint, events = _check(context, wanted.endpoint, wanted.events)
    assert endpoint is not None
    assert events is not None
    webhook_id: UUID = uuid7()
    secret = new_secret()
    keys = await context.keyring.tenant(call.tenant_id)
    await store.add_webhook(
        context.db,
        call.tenant_id,
        webhook_id,
        SealedEndpoint(endpoint.host, keys.seal("webhook.endpoint", webhook_id, endpoint.url.encode())),
        keys.seal("webhook.secret", webhook_id, secret.encode()),
        events,
        include_personal=wanted.include_personal,
    )
    return Reply(201, _ENCODE(WebhookSecret(str(webhook_id), secret)))


async def get_webhook(context: ApiContext, call: Call) -> Reply:
    """Return a webhook with its secret."""
    webhook = await _read(context, call)
    secret = await _open(context, webhook, "webhook.secret", webhook.sealed_secret)
    return Reply(200, _ENCODE(WebhookView(**await _summary(context, webhook), signing_secret=secret)))


async def list_webhooks(context: ApiContext, call: Call) -> Reply:
    """Return a page of webhooks, newest first, without their secrets."""
    webhooks, has_more = await store.list_webhooks(context.db, call.tenant_id, parse_page(call.query()))
    return Reply(
        200, _ENCODE(WebhookList(has_more, [WebhookSummary(**await _summary(context, one)) for one in webhooks]))
    )


async def update_webhook(context: ApiContext, call: Call) -> Reply:
    """Change where events are sent, which, or whether."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _UPDATE.decode(body)
    webhook_id = _id(call)
    endpoint, events = _check(context, wanted.endpoint, wanted.events, webhook_id, wanted.webhook_id)
    sealed = None
    if endpoint is not None:
        keys = await context.keyring.tenant(call.tenant_id)
        sealed = SealedEndpoint(endpoint.host, keys.seal("webhook.endpoint", webhook_id, endpoint.url.encode()))
    await store.update_webhook(
        context.db,
        call.tenant_id,
        webhook_id,
        endpoint=sealed,
        events=events,
        status=wanted.status,
        include_personal=wanted.include_personal,
    )
    return Reply(200, _ENCODE(WebhookId(str(webhook_id))))


async def rotate_webhook_secret(context: ApiContext, call: Call) -> Reply:
    """Make another secret; for a day what is sent carries a signature of each, so that no receiver has a gap."""
    webhook = await _read(context, call)
    secret = new_secret()
    old = await _open(context, webhook, "webhook.secret", webhook.sealed_secret)
    keys = await context.keyring.tenant(call.tenant_id)
    await store.rotate_secret(
        context.db,
        webhook,
        keys.seal("webhook.secret", webhook.webhook_id, secret.encode()),
        keys.seal("webhook.old_secret", webhook.webhook_id, old.encode()),
    )
    return Reply(200, _ENCODE(WebhookSecret(str(webhook.webhook_id), secret)))


async def delete_webhook(context: ApiContext, call: Call) -> Reply:
    """Delete a webhook, with what was yet to be sent there."""
    webhook_id = _id(call)
    await store.delete_webhook(context.db, call.tenant_id, webhook_id)
    return Reply(200, _ENCODE(WebhookDeleted(str(webhook_id))))


def _check(
    context: ApiContext,
    url: str | None,
    events: list[str] | None,
    path_id: UUID | None = None,
    body_id: UUID | None = None,
) -> tuple[Endpoint | None, tuple[str, ...] | None]:
    """Return endpoint and events as far as they are given; raises InvalidRequest with every mistake."""
    findings = Findings()
    networks = context.settings.webhook_networks
    endpoint = None if url is None else findings.read("/endpoint", lambda: parse_endpoint(url, networks))
    chosen = None if events is None else findings.read("/events", lambda: parse_events(events))
    if body_id not in (None, path_id):
        findings.add("/webhook_id", "leave this field out, or give the id of the path")
    if findings.faults:
        raise InvalidRequest("the webhook is not valid", tuple(findings.faults))
    return endpoint, chosen


async def _read(context: ApiContext, call: Call) -> StoredWebhook:
    return await store.get_webhook(context.db, call.tenant_id, _id(call))


def _id(call: Call) -> UUID:
    return parse_id(call.params["webhook_id"], "webhook")


async def _open(context: ApiContext, webhook: StoredWebhook, field: str, sealed: bytes) -> str:
    return (await context.keyring.open(webhook.tenant_id, field, webhook.webhook_id, sealed)).decode()


async def _summary(context: ApiContext, webhook: StoredWebhook) -> dict[str, Any]:
    return {
        "id": str(webhook.webhook_id),
        "endpoint": await _open(context, webhook, "webhook.endpoint", webhook.sealed_endpoint),
        "events": list(webhook.events),
        "status": webhook.status,
        "disabled_by": webhook.disabled_by,
        "include_personal": webhook.include_personal,
        "created_at": webhook.created_at,
    }
