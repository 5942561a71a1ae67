"""What Resend's API has and this gateway has not: answered 501 by name, so that an SDK raises an error that says so.

A path that is routed comes before these. So what is built later takes its paths away from here by itself, and its
line goes when nothing is left of it.
"""

from itertools import product

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.routing import Access, Route
from email_gateway.errors import NotOffered

# Each with everything below it.
NOT_OFFERED = (
    "/v1/audiences",
    "/v1/automations",
    "/v1/broadcasts",
    "/v1/contact-properties",
    "/v1/contacts",
    "/v1/domains/claim",
    "/v1/domains/{domain_id}/claim",
    "/v1/emails/metrics",
    "/v1/emails/receiving",
    "/v1/emails/{email_id}/share",
    "/v1/events",
    "/v1/inboxes",
    "/v1/logs",
    "/v1/oauth",
    "/v1/segments",
    "/v1/topics",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DEEPEST = 5  # /inboxes/{id}/threads/{id}/labels/{id}


async def refuse_not_offered(_context: ApiContext, call: Call) -> Reply:
    """Say that this gateway has no such thing."""
    raise NotOffered(f"this gateway does not offer {call.route.partition('/{step_')[0]}: it sends transactional mail")


def _below(path: str) -> tuple[str, ...]:
    return tuple(path + "".join(f"/{{step_{step}}}" for step in range(depth)) for depth in range(DEEPEST + 1))


NOT_OFFERED_ROUTES = tuple(
    Route(method, below, refuse_not_offered, Access.SENDING, "Not offered", None, status=501)
    for path, method in product(NOT_OFFERED, METHODS)
    for below in _below(path)
)
