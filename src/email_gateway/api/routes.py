"""Every path of the HTTP interface."""

from functools import cache
from typing import get_args

from email_gateway.api import (
    api_keys,
    attachments,
    dead_letters,
    health,
    keys,
    listing,
    messages,
    queue,
    retrying,
    scheduling,
    secrets,
    sending,
    suppressions,
    tenants,
    traces,
    usage,
)
from email_gateway.api.account_routes import TEMPLATES, WEBHOOKS
from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.domain_routes import DOMAINS
from email_gateway.api.openapi import build_document
from email_gateway.api.parameters import ID, LIMIT, PAGE
from email_gateway.api.routing import Access, Query, Route
from email_gateway.api.schemas import (
    AddSuppression,
    AddSuppressions,
    BatchAccepted,
    EmailBatch,
    EmailId,
    EmailList,
    EmailReference,
    EmailView,
    EventList,
    Live,
    Ready,
    RemoveSuppressions,
    SearchEmails,
    SendEmail,
    Status,
    SuppressionId,
    SuppressionIds,
    SuppressionList,
    SuppressionRemoved,
    SuppressionsRemoved,
    SuppressionView,
    UpdateEmail,
    Usage,
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
_MOMENT = {"type": "string", "format": "date-time"}
_EMAIL_FILTER = (
    Query(
        "tag", "With this tag only, as `name:value`.", {"type": "string", "pattern": "^[A-Za-z0-9_-]+:[A-Za-z0-9_-]+$"}
    ),
    Query("status", "With a delivery in this state only.", {"type": "string", "enum": list(get_args(Status))}),
    Query("created_after", "Accepted then or later only.", _MOMENT),
    Query("created_before", "Accepted before then only.", _MOMENT),
)
_TRACEPARENT = Query(
    "traceparent",
    "The trace that the messages belong to (W3C Trace Context, version 00): kept with them, and sent back.",
    {"type": "string", "minLength": 55, "maxLength": 55},
    place="header",
)
_DEAD_FILTER = (
    Query("tenant_id", "Of this tenant only.", ID),
    Query("reason", "Dead for this reason only.", {"type": "string"}),
    Query("domain", "To this domain only.", {"type": "string"}),
    Query("dead_before", "Dead before this moment only.", _MOMENT),
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
        parameters=(_IDEMPOTENCY, _TRACEPARENT),
    ),
    Route(
        "POST",
        "/v1/emails/batch",
        sending.send_batch,
        Access.SENDING,
        "Send up to 1,000 messages",
        BatchAccepted,
        202,
        list[SendEmail] | EmailBatch,
        parameters=(_IDEMPOTENCY, _VALIDATION, _TRACEPARENT),
    ),
    Route(
        "GET",
        "/v1/emails",
        listing.list_emails,
        Access.FULL,
        "List messages",
        EmailList,
        parameters=(*PAGE, *_EMAIL_FILTER),
    ),
    Route(
        "POST",
        "/v1/emails/search",
        listing.search_emails,
        Access.FULL,
        "Find messages about a person, or by tag, status and time",
        EmailList,
        body=SearchEmails,
    ),
    Route("GET", "/v1/emails/{email_id}", messages.get_email, Access.FULL, "Read a message", EmailView),
    Route(
        "GET",
        "/v1/emails/{email_id}/attachments",
        attachments.list_email_attachments,
        Access.FULL,
        "List a message's files",
        attachments.AttachmentList,
        parameters=PAGE,
    ),
    Route(
        "GET",
        "/v1/emails/{email_id}/attachments/{attachment_id}",
        attachments.get_email_attachment,
        Access.FULL,
        "Show a message's file",
        attachments.AttachmentView,
    ),
    Route(
        "GET",
        "/v1/downloads/{token}",
        attachments.download_attachment,
        Access.PUBLIC,
        "Fetch a file by its link",
        bytes,
    ),
    Route(
        "PATCH",
        "/v1/emails/{email_id}",
        scheduling.update_email,
        Access.FULL,
        "Move a scheduled message to another time",
        EmailReference,
        body=UpdateEmail,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/v1/emails/{email_id}/cancel",
        scheduling.cancel_email,
        Access.FULL,
        "Cancel a scheduled message",
        EmailReference,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/v1/emails/{email_id}/retry",
        retrying.retry_email,
        Access.FULL,
        "Try a message's dead deliveries again",
        retrying.EmailRetried,
        may_conflict=True,
    ),
    Route(
        "GET",
        "/v1/emails/{email_id}/events",
        messages.list_email_events,
        Access.FULL,
        "Read a message's history",
        EventList,
    ),
)
API_KEYS = (
    Route(
        "POST",
        "/v1/api-keys",
        api_keys.create_key,
        Access.FULL,
        "Make an API key",
        api_keys.ApiKeyCreated,
        201,
        api_keys.CreateApiKey,
    ),
    Route(
        "GET",
        "/v1/api-keys",
        api_keys.list_keys,
        Access.FULL,
        "List API keys",
        api_keys.ApiKeyList,
        parameters=PAGE,
    ),
    Route(
        "PATCH",
        "/v1/api-keys/{api_key_id}",
        api_keys.rename_key,
        Access.FULL,
        "Rename an API key",
        api_keys.ApiKeyRenamed,
        body=api_keys.RenameApiKey,
    ),
    Route(
        "DELETE",
        "/v1/api-keys/{api_key_id}",
        api_keys.delete_key,
        Access.FULL,
        "Delete an API key",
        api_keys.ApiKeyDeleted,
    ),
)
_ORIGIN = Query("origin", "Of this origin only.", {"type": "string", "enum": [*suppressions.ORIGINS]})
SUPPRESSIONS = (
    Route(
        "POST",
        "/v1/suppressions",
        suppressions.add_suppression,
        Access.FULL,
        "Suppress an address",
        SuppressionId,
        201,
        AddSuppression,
    ),
    Route(
        "GET",
        "/v1/suppressions",
        suppressions.list_suppressions,
        Access.FULL,
        "List suppressed addresses",
        SuppressionList,
        parameters=(*PAGE, _ORIGIN),
    ),
    Route(
        "POST",
        "/v1/suppressions/batch/add",
        suppressions.add_suppressions,
        Access.FULL,
        "Suppress up to 100 addresses",
        SuppressionIds,
        201,
        AddSuppressions,
    ),
    Route(
        "POST",
        "/v1/suppressions/batch/remove",
        suppressions.remove_suppressions,
        Access.FULL,
        "End up to 100 suppressions",
        SuppressionsRemoved,
        body=RemoveSuppressions,
    ),
    Route(
        "GET",
        "/v1/suppressions/{suppression}",
        suppressions.get_suppression,
        Access.FULL,
        "Read a suppression, by id or address",
        SuppressionView,
    ),
    Route(
        "DELETE",
        "/v1/suppressions/{suppression}",
        suppressions.remove_suppression,
        Access.FULL,
        "End a suppression, by id or address",
        SuppressionRemoved,
    ),
)
USAGE = (Route("GET", "/v1/usage", usage.get_usage, Access.FULL, "Read what is used of the quotas", Usage),)
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
TENANTS = (
    Route("GET", "/admin/tenants", tenants.list_all_tenants, Access.ADMIN, "List tenants", tenants.TenantList),
    Route(
        "POST",
        "/admin/tenants",
        tenants.add_tenant,
        Access.ADMIN,
        "Make a tenant",
        tenants.TenantView,
        201,
        tenants.NamedTenant,
        may_conflict=True,
    ),
    Route("GET", "/admin/tenants/{tenant_id}", tenants.show_tenant, Access.ADMIN, "Show a tenant", tenants.TenantView),
    Route(
        "PATCH",
        "/admin/tenants/{tenant_id}",
        tenants.change_tenant,
        Access.ADMIN,
        "Rename a tenant",
        tenants.TenantView,
        body=tenants.NamedTenant,
        may_conflict=True,
    ),
    *(
        Route(
            "POST",
            f"/admin/tenants/{{tenant_id}}/{act}",
            handler,
            Access.ADMIN,
            summary,
            tenants.TenantView,
            body=tenants.SuspensionAct,
            is_body_optional=True,
        )
        for act, handler, summary in (
            ("suspend", tenants.suspend, "Suspend a tenant"),
            ("resume", tenants.resume, "Resume a tenant"),
        )
    ),
    Route(
        "GET",
        "/admin/tenants/{tenant_id}/api-keys",
        tenants.list_tenant_keys,
        Access.ADMIN,
        "List a tenant's API keys",
        tenants.TenantKeyList,
    ),
    Route(
        "POST",
        "/admin/tenants/{tenant_id}/api-keys",
        tenants.add_tenant_key,
        Access.ADMIN,
        "Make an API key for a tenant",
        tenants.TenantKeyMade,
        201,
        tenants.CreateTenantKey,
    ),
    Route(
        "POST",
        "/admin/tenants/{tenant_id}/api-keys/{api_key_id}/rotate",
        tenants.rotate_tenant_key,
        Access.ADMIN,
        "Make an API key in another's place",
        tenants.TenantKeyMade,
        201,
        tenants.RotateTenantKey,
        is_body_optional=True,
        may_conflict=True,
    ),
    Route(
        "DELETE",
        "/admin/tenants/{tenant_id}/api-keys/{api_key_id}",
        tenants.revoke_tenant_key,
        Access.ADMIN,
        "Revoke a tenant's API key",
        tenants.TenantKeyView,
    ),
)
ROUTES = (
    *EMAILS,
    *DOMAINS,
    *API_KEYS,
    *SUPPRESSIONS,
    *USAGE,
    *TEMPLATES,
    *WEBHOOKS,
    *HEALTH,
    *SECRETS,
    *KEYS,
    *QUEUE,
    *DEAD_LETTERS,
    *TENANTS,
)
