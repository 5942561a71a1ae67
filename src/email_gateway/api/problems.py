"""The one place where errors become HTTP: a status, an RFC 9457 body, and the fields Resend's SDKs read.

No value that was sent and no text of a library reaches an answer: every word here and in our own
errors is ours.
"""

from collections.abc import Sequence

import msgspec

from email_gateway.api.calls import JSON, Reply
from email_gateway.errors import (
    CallerError,
    Conflict,
    DomainNotVerified,
    Fault,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotOffered,
    RateLimited,
    TooLarge,
    TryLater,
    Unauthorized,
)

PROBLEM_JSON = (b"content-type", b"application/problem+json")


class UnsupportedMediaType(CallerError):
    """The body's type or encoding is not one that this interface reads."""

    code = "unsupported_media_type"


class MethodNotAllowed(CallerError):
    """The path exists, and not for this method; `allow` lists the methods it has."""

    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__("this path does not know this method")
        self.allow = allow


class FaultBody(msgspec.Struct, frozen=True):
    """One mistake: a JSON pointer (RFC 6901) into the request, and what to change there."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 describes it; `statusCode`, `name` and `message` are what Resend's SDKs read."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    status_code: int = msgspec.field(name="statusCode")
    name: str
    message: str
    errors: list[FaultBody] = []


# From the special to the general; the first that fits decides the status and the title.
STATUSES: tuple[tuple[type[GatewayError], int, str], ...] = (
    (InvalidRequest, 422, "The request is not valid"),
    (Unauthorized, 401, "A key is missing"),
    (Forbidden, 403, "This key may not do that"),
    (DomainNotVerified, 403, "The sender's domain is not verified"),
    (NotFound, 404, "Not found"),
    (MethodNotAllowed, 405, "Method not allowed"),
    (Conflict, 409, "The request contradicts what is stored"),
    (TooLarge, 413, "The body is too large"),
    (UnsupportedMediaType, 415, "The body's type is not supported"),
    (RateLimited, 429, "Too many requests"),
    (NotOffered, 501, "Not offered here"),
    (CallerError, 400, "The request cannot be served"),
    (TryLater, 503, "Try again later"),
)
INTERNAL = (500, "Something went wrong here")
INTERNAL_CODE = "application_error"


def problem_reply(error: Exception, request_id: str, accept: bytes = b"") -> Reply:
    """Return the answer to an error; what is not ours to tell becomes a bare 500.

    The type is application/json, since Resend's Python SDK refuses others, unless `accept` names
    application/problem+json.
    """
    status, title = next(((s, t) for kind, s, t in STATUSES if isinstance(error, kind)), INTERNAL)
    if status == INTERNAL[0] or not isinstance(error, GatewayError):
        code, detail = INTERNAL_CODE, "the operator can find the cause under this request_id"
    else:
        code, detail = error.code, _detail(error)
    body = make_problem(status, title, code, detail, request_id, getattr(error, "faults", ()))
    return Reply(status, body, _headers(error), PROBLEM_JSON if b"application/problem+json" in accept else JSON)


def make_problem(
    status: int, title: str, code: str, detail: str, request_id: str, faults: Sequence[Fault] = ()
) -> bytes:
    """Return the body of an error."""
    return msgspec.json.encode(
        Problem(
            type=f"urn:email-gateway:problem:{code}",
            title=title,
            status=status,
            detail=detail,
            code=code,
            request_id=request_id,
            status_code=status,
            name=code,
            message=detail,
            errors=[FaultBody(fault.pointer, fault.detail) for fault in faults],
        )
    )


def describe(faults: tuple[Fault, ...]) -> str:
    """Say the first mistake, and how many more there are: what an SDK shows its user."""
    first = faults[0]
    where = f"{first.pointer}: " if first.pointer else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}{first.detail}{more}"


def _detail(error: GatewayError) -> str:
    if isinstance(error, TryLater):
        return f"the request was not answered ({error.code}); repeating it with the same Idempotency-Key is safe"
    if isinstance(error, InvalidRequest) and error.faults:
        return describe(error.faults)
    return str(error)


def _headers(error: Exception) -> tuple[tuple[bytes, bytes], ...]:
    headers = []
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if (seconds := getattr(error, "retry_after_seconds", None)) is not None:
        headers.append((b"retry-after", str(seconds).encode()))
    return tuple(headers)
