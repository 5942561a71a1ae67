"""Every path of the HTTP interface."""

from functools import cache
from typing import get_args

from email_gateway.api import (
    attachments,
    health,
    listing,
    messages,
    retrying,
    scheduling,
    sending,
)
from email_gateway.api.account_routes import API_KEYS, SUPPRESSIONS, TEMPLATES, USAGE, WEBHOOKS
from email_gateway.api.admin_routes import DEAD_LETTERS, KEYS, QUEUE, SECRETS, TENANTS
from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.domain_routes import DOMAINS
from email_gateway.api.openapi import build_document
from email_gateway.api.parameters import MOMENT, PAGE
from email_gateway.api.routing import Access, Query, Route
from email_gateway.api.schemas import (
    BatchAccepted,
    EmailBatch,
    EmailId,
    EmailList,
    EmailReference,
    EmailView,
    EventList,
    Live,
    Ready,
    SearchEmails,
    SendEmail,
    Status,
    UpdateEmail,
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
_EMAIL_FILTER = (
    Query(
        "tag", "With this tag only, as `name:value`.", {"type": "string", "pattern": "^[A-Za-z0-9_-]+:[A-Za-z0-9_-]+$"}
    ),
    Query("status", "With a delivery in this state only.", {"type": "string", "enum": list(get_args(Status))}),
    Query("created_after", "Accepted then or later only.", MOMENT),
    Query("created_before", "Accepted before then only.", MOMENT),
)
_TRACEPARENT = Query(
    "traceparent",
    "The trace that the messages belong to (W3C Trace Context, version 00): kept with them, and sent back.",
    {"type": "string", "minLength": 55, "maxLength": 55},
    place="header",
)

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
HEALTH = (
    Route("GET", "/v1/health/livez", health.get_livez, Access.PUBLIC, "Is the process alive", Live),
    Route("GET", "/v1/health/readyz", health.get_readyz, Access.PUBLIC, "Can mail be accepted", Ready),
    Route("GET", "/openapi.json", get_openapi, Access.PUBLIC, "This document", dict),
    Route("GET", "/metrics", health.get_metrics, Access.PUBLIC, "Prometheus metrics, to this machine only", str),
    Route("GET", "/admin/health", health.get_admin_health, Access.PROBE, "Health in detail", health.Health),
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
