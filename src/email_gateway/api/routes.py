"""Every path of the HTTP interface."""

from functools import cache

from email_gateway.api import dead_letters, health, keys, messages, queue, secrets, sending, traces
from email_gateway.api.account_routes import TEMPLATES, WEBHOOKS
from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.openapi import build_document
from email_gateway.api.parameters import ID, LIMIT, PAGE
from email_gateway.api.routing import Access, Query, Route
from email_gateway.api.schemas import (
    BatchAccepted,
    EmailBatch,
    EmailId,
    EmailList,
    EmailView,
    EventList,
    Live,
    Ready,
    SearchEmails,
    SendEmail,
)


async def get_openapi(_context: ApiContext, _call: Call) -> Reply:
    """Return the description of every route of this table."""
    return Reply(200, _document())


@cache
def _document() -> bytes:
    return build_document(ROUTES)


_IDEMPOTENCY = Query(
    "Idempotency-Key",
    "Makes repeating safe for 24 hours: the same key and body answer the same ids.",
    {"type": "string", "minLength": 1, "maxLength": 256},
    place="header",
)
_VALIDATION = Query(
    "x-batch-validation",
    "With `permissive` the valid messages of a batch are accepted without the others.",
    {"type": "string", "enum": ["strict", "permissive"], "default": "strict"},
    place="header",
)
_DEAD_FILTER = (
    Query("tenant_id", "Of this tenant only.", ID),
    Query("reason", "Dead for this reason only.", {"type": "string"}),
    Query("domain", "To this domain only.", {"type": "string"}),
    Query("dead_before", "Dead before this moment only.", {"type": "string", "format": "date-time"}),
)
_DEAD_PAGE = (LIMIT, Query("after", "Behind this dead letter's id.", {"type": "string"}), *_DEAD_FILTER)

EMAILS = (
    Route(
        "POST",
        "/v1/emails",
        sending.send_email,
        Access.SENDING,
        "Send a message",
        EmailId,
        202,
        SendEmail,
        parameters=(_IDEMPOTENCY,),
    ),
    Route(
        "POST",
        "/v1/emails/batch",
        sending.send_batch,
        Access.SENDING,
        "Send up to 100 messages",
        BatchAccepted,
        202,
        list[SendEmail] | EmailBatch,
        parameters=(_IDEMPOTENCY, _VALIDATION),
    ),
    Route("GET", "/v1/emails", messages.list_emails, Access.FULL, "List messages", EmailList, parameters=PAGE),
    Route(
        "POST",
        "/v1/emails/search",
        messages.search_emails,
        Access.FULL,
        "Find the messages about a person",
        EmailList,
        body=SearchEmails,
    ),
    Route("GET", "/v1/emails/{email_id}", messages.get_email, Access.FULL, "Read a message", EmailView),
    Route(
        "GET",
        "/v1/emails/{email_id}/events",
        messages.list_email_events,
        Access.FULL,
        "Read a message's history",
        EventList,
    ),
)
HEALTH = (
    Route("GET", "/v1/health/livez", health.get_livez, Access.PUBLIC, "Is the process alive", Live),
    Route("GET", "/v1/health/readyz", health.get_readyz, Access.PUBLIC, "Can mail be accepted", Ready),
    Route("GET", "/openapi.json", get_openapi, Access.PUBLIC, "This document", dict),
    Route("GET", "/metrics", health.get_metrics, Access.PUBLIC, "Prometheus metrics, to this machine only", str),
    Route("GET", "/admin/health", health.get_admin_health, Access.PROBE, "Health in detail", health.Health),
)
DEAD_LETTERS = (
    Route(
        "GET",
        "/admin/dlq",
        dead_letters.list_dlq,
        Access.ADMIN,
        "List dead letters",
        dead_letters.DeadLetterList,
        parameters=_DEAD_PAGE,
    ),
    Route(
        "GET",
        "/admin/dlq/stats",
        dead_letters.get_dlq_stats,
        Access.ADMIN,
        "Count dead letters",
        dead_letters.DeadLetterStats,
        parameters=_DEAD_FILTER,
    ),
    Route(
        "POST",
        "/admin/dlq/retry",
        dead_letters.retry_dlq,
        Access.ADMIN,
        "Retry dead letters by filter",
        dead_letters.ActDone,
        body=dead_letters.BulkAct,
    ),
    Route(
        "POST",
        "/admin/dlq/discard",
        dead_letters.discard_dlq,
        Access.ADMIN,
        "Discard dead letters by filter",
        dead_letters.ActDone,
        body=dead_letters.BulkAct,
    ),
    Route(
        "GET",
        "/admin/dlq/{delivery_id}",
        dead_letters.get_dlq_delivery,
        Access.ADMIN,
        "Show a dead letter",
        dead_letters.DeadLetterDetail,
    ),
    Route(
        "POST",
        "/admin/dlq/{delivery_id}/retry",
        dead_letters.retry_dlq_delivery,
        Access.ADMIN,
        "Retry a dead letter",
        dead_letters.ActDone,
        body=dead_letters.SingleAct,
        is_body_optional=True,
    ),
    Route(
        "POST",
        "/admin/dlq/{delivery_id}/discard",
        dead_letters.discard_dlq_delivery,
        Access.ADMIN,
        "Discard a dead letter",
        dead_letters.ActDone,
        body=dead_letters.SingleAct,
        is_body_optional=True,
    ),
)
SECRETS = (
    Route("GET", "/admin/secrets", secrets.list_secrets, Access.ADMIN, "List the secrets held", secrets.SecretList),
    Route(
        "POST",
        "/admin/secrets/refresh",
        secrets.refresh_secrets,
        Access.ADMIN,
        "Read the secrets again, everywhere",
        secrets.SecretsRefreshed,
        body=secrets.RefreshSecrets,
        is_body_optional=True,
    ),
    Route(
        "POST",
        "/admin/secrets/stage",
        secrets.stage_secret,
        Access.ROTATION,
        "Let a pending admin key be tried",
        secrets.SecretStaged,
        body=secrets.StageSecret,
    ),
)
KEYS = (
    Route("GET", "/admin/keys", keys.get_keys, Access.ADMIN, "Show root keys and data keys", keys.KeysView),
    *(
        Route(
            "POST",
            f"/admin/keys/rotation/{step}",
            handler,
            Access.ROTATION,
            summary,
            keys.RotationStanding,
            body=keys.RotationStep,
        )
        for step, handler, summary in (
            ("stage", keys.stage_rotation, "Prepare the root key of a pending version"),
            ("verify", keys.verify_rotation, "Open every data key under a prepared root key"),
            ("complete", keys.complete_rotation, "Adopt what has become current"),
        )
    ),
)
QUEUE = (
    Route("GET", "/admin/queue", queue.get_queue, Access.ADMIN, "Show what waits and what is held", queue.QueueView),
    Route(
        "POST",
        "/admin/queue/hold",
        queue.hold_queue,
        Access.ADMIN,
        "Hold mail by hand",
        queue.Held,
        body=queue.HoldAct,
    ),
    Route(
        "POST",
        "/admin/queue/release",
        queue.release_queue,
        Access.ADMIN,
        "Release what is held by hand",
        queue.Held,
        body=queue.QueueAct,
    ),
    Route(
        "POST",
        "/admin/queue/flush",
        queue.flush_queue,
        Access.ADMIN,
        "Try now what waits",
        queue.FlushedView,
        body=queue.QueueAct,
    ),
    Route(
        "GET",
        "/admin/messages/{message_id}/trace",
        traces.get_trace,
        Access.ADMIN,
        "Tell a message's whole story",
        traces.TraceView,
    ),
)
ROUTES = (*EMAILS, *TEMPLATES, *WEBHOOKS, *HEALTH, *SECRETS, *KEYS, *QUEUE, *DEAD_LETTERS)
