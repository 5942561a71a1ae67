"""What callers send and receive: these declarations decode, validate, encode and document /v1."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

MAX_RECIPIENTS = 50
MAX_TAGS = 75
MAX_BATCH = 1000
MAX_SUPPRESSIONS = 100
MAX_ATTACHMENTS = 100
MAX_HEADERS = 100
MIN_LIFETIME_SECONDS = 60
MAX_LIFETIME_SECONDS = 14 * 24 * 3600

SendTime = Annotated[
    str,
    Meta(
        description="When to send it, within 30 days: ISO 8601 (UTC without an offset), or a phrase such as"
        " `in 10 minutes`, `tomorrow at 9am` or `Friday at 3pm ET`. A time up to 24 hours back means at once."
    ),
]
Status = Literal[
    "scheduled", "queued", "sending", "delivered", "kept", "bounced", "expired", "suppressed", "cancelled", "dead"
]
ADDRESS_LIST = "One address or a list of them, each `user@example.com` or `Name <user@example.com>`."


class BufferJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes as Node's `JSON.stringify` writes a Buffer."""

    type: Literal["Buffer"]
    data: list[int]


class AttachmentInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file to attach. It is sent in `content`; nothing is ever fetched."""

    content: Annotated[
        str | list[int] | BufferJson,
        Meta(description="The file in base64, as a list of byte values, or as Node's Buffer JSON."),
    ]
    filename: Annotated[str, Meta(description="The name that the recipient sees.", max_length=1000)]
    content_type: Annotated[str | None, Meta(description="Guessed from the file name's ending when left out.")] = None
    content_id: Annotated[str | None, Meta(description="For `cid:` links of the HTML.")] = None
    inline_content_id: Annotated[str | None, Meta(description="Another name of `content_id`.")] = None


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A label kept in clear, for filters and statistics: put nothing personal here."""

    name: Annotated[str, Meta(description="1 to 256 ASCII letters, digits, `_` and `-`.", max_length=256)]
    value: Annotated[str, Meta(description="1 to 256 ASCII letters, digits, `_` and `-`.", max_length=256)]


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The person the message is about, so that it can be found again."""

    tax_id: Annotated[str | None, Meta(description="A CPF or CNPJ, with or without punctuation.")] = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    external_id: Annotated[str, Meta(description="Your own id of the person.", max_length=256)] | None = None


class TemplateInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published template, and what stands in the places of its variables."""

    id: Annotated[str, Meta(description="The template's id or alias.", min_length=1, max_length=100)]
    variables: Annotated[
        dict[str, str | int | float | bool | None] | None,
        Meta(description="A value for each variable that has no fallback; always escaped in HTML."),
    ] = None


class SendEmail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """One message to send."""

    to: Annotated[str | list[str], Meta(description=ADDRESS_LIST)]
    sender: Annotated[
        str | list[str] | msgspec.UnsetType,
        Meta(description="`user@example.com` or `Name <user@example.com>`; required unless the template has it."),
    ] = msgspec.UNSET
    subject: (
        Annotated[str, Meta(description="At most 998 characters; required unless the template has it.", max_length=998)]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    html: Annotated[str | None, Meta(description="The HTML body; this, `text` or `template` is required.")] = None
    text: Annotated[str | None, Meta(description="The plain text body; this, `html` or `template` is required.")] = None
    template: Annotated[TemplateInput | None, Meta(description="What to send instead of `html` and `text`.")] = None
    cc: Annotated[str | list[str] | None, Meta(description=ADDRESS_LIST)] = None
    bcc: Annotated[str | list[str] | None, Meta(description=ADDRESS_LIST)] = None
    reply_to: Annotated[str | list[str] | None, Meta(description=ADDRESS_LIST)] = None
    headers: Annotated[dict[str, str] | None, Meta(description="Headers of your own.")] = None
    attachments: Annotated[
        list[AttachmentInput] | None, Meta(description="Files; with the bodies at most 40 MiB once in base64.")
    ] = None
    tags: Annotated[list[Tag] | None, Meta(description="At most 75, each name once.")] = None
    recipient: Annotated[Person | None, Meta(description="The person the message is about.")] = None
    on_doubt: Annotated[
        Literal["resend", "hold"] | None,
        Meta(
            description="When a server's answer to the whole message was lost: `resend` may send it twice, "
            "`hold` leaves it to an operator."
        ),
    ] = None
    priority: Annotated[
        Literal["high", "normal", "low"] | None,
        Meta(description="Within your own mail, high goes before normal and normal before low."),
    ] = None
    scheduled_at: SendTime | None = None
    expires_after: (
        Annotated[
            int,
            Meta(
                description="Seconds after which it is no longer worth sending, such as a one-time code; they begin"
                " at `scheduled_at`.",
                ge=MIN_LIFETIME_SECONDS,
                le=MAX_LIFETIME_SECONDS,
            ),
        ]
        | None
    ) = None


class UpdateEmail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed about a message that is still scheduled: when it leaves."""

    scheduled_at: SendTime
    id: Annotated[str | None, Meta(description="The id of the path, which Resend's SDK for Python repeats.")] = None


class EmailBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch as an object; a bare list is the same."""

    emails: list[SendEmail]


class RawBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch whose members are still to be decoded one by one."""

    emails: list[msgspec.Raw]


class SearchEmails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages to find, by one thing at least, and by one of `tax_id`, `address` and `external_id` at most."""

    tax_id: str | None = None
    address: str | None = None
    external_id: Annotated[str, Meta(max_length=256)] | None = None
    tag: Annotated[Tag | None, Meta(description="A tag that it has.")] = None
    status: Annotated[Status | None, Meta(description="The state of one of its deliveries.")] = None
    created_after: Annotated[datetime, Meta(description="Accepted then or later.", tz=True)] | None = None
    created_before: Annotated[datetime, Meta(description="Accepted before then.", tz=True)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: UUID | None = None
    before: UUID | None = None


class EmailId(msgspec.Struct, frozen=True):
    """The id of an accepted message."""

    id: str


class EmailReference(msgspec.Struct, frozen=True):
    """The message that was changed."""

    id: str
    object: Literal["email"] = "email"


class BatchFault(msgspec.Struct, frozen=True):
    """A member of a permissive batch that was not accepted, by its position."""

    index: int
    message: str


class BatchAccepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The accepted messages of a batch in their order; `errors` only when some were not."""

    data: list[EmailId]
    errors: list[BatchFault] = []


class DeliveryView(msgspec.Struct, frozen=True):
    """How far a message has come for one recipient."""

    recipient: str
    state: Status
    attempts: int
    next_attempt_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    code: int | None


class PersonView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The person a message is about; the tax id is masked."""

    tax_id: str | None = None
    name: str | None = None
    external_id: str | None = None


class EmailSummary(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message in a list: everything but its bodies."""

    object: Literal["email"] = "email"
    id: str
    message_id: Annotated[str, Meta(description="The Message-ID header.")]
    sender: str
    to: list[str]
    cc: list[str]
    bcc: list[str]
    reply_to: list[str]
    subject: str
    created_at: datetime
    scheduled_at: datetime | None = None
    last_event: Literal["scheduled", "queued", "delivered", "bounced", "suppressed", "canceled", "failed"]
    tags: list[Tag]
    deliveries: list[DeliveryView]
    person: PersonView | None = None


class EmailView(EmailSummary, frozen=True, kw_only=True):
    """A message with its bodies."""

    html: str | None
    text: str | None
    expires_at: datetime
    size: int
    attachment_count: int
    traceparent: Annotated[
        str | None, Meta(description="The trace of the request that brought it (W3C Trace Context).")
    ] = None


class EmailList(msgspec.Struct, frozen=True):
    """A page of messages, newest first."""

    has_more: bool
    data: list[EmailSummary]
    object: Literal["list"] = "list"


class EventView(msgspec.Struct, frozen=True):
    """One fact in a message's history."""

    id: str
    type: str
    created_at: datetime
    recipient: str | None
    attempt: int | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: Annotated[str | None, Meta(description="The enhanced status code (RFC 3463).")]
    reply: Annotated[str | None, Meta(description="What the receiving server said.")]


class EventList(msgspec.Struct, frozen=True):
    """A message's history, oldest first."""

    data: list[EventView]
    has_more: bool = False
    object: Literal["list"] = "list"


Origin = Literal["bounce", "complaint", "manual"]
SuppressionReason = Literal["bounce", "complaint", "manual", "unsubscribe"]
SuppressedAddress = Annotated[str, Meta(description="The address alone, `user@example.com`, in any case.")]


class AddSuppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address that is to get no more mail."""

    email: SuppressedAddress
    reason: Annotated[SuppressionReason | None, Meta(description="`manual` when left out.")] = None
    source_id: Annotated[UUID | None, Meta(description="The message that it came from.")] = None
    note: (
        Annotated[str, Meta(description="Where it came from, for people; kept under seal.", max_length=200)] | None
    ) = None
    expires_at: Annotated[datetime, Meta(description="Until when; it never ends when left out.", tz=True)] | None = None


class AddSuppressions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses to suppress by hand, all or none."""

    emails: Annotated[list[str], Meta(min_length=1, max_length=MAX_SUPPRESSIONS)]


class RemoveSuppressions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Suppressions to end: `emails` or `ids`, not both."""

    emails: Annotated[list[str], Meta(min_length=1, max_length=MAX_SUPPRESSIONS)] | None = None
    ids: Annotated[list[str], Meta(min_length=1, max_length=MAX_SUPPRESSIONS)] | None = None


class SuppressionId(msgspec.Struct, frozen=True):
    """The id of a suppression, new or not."""

    id: str
    object: Literal["suppression"] = "suppression"


class SuppressionIds(msgspec.Struct, frozen=True):
    """The suppressions of a batch; of an address that was given twice, one."""

    data: list[SuppressionId]


class SuppressionRemoved(msgspec.Struct, frozen=True):
    """A suppression that has ended."""

    id: str
    deleted: bool = True
    object: Literal["suppression"] = "suppression"


class SuppressionsRemoved(msgspec.Struct, frozen=True):
    """The suppressions of a batch that have ended: those that there were."""

    data: list[SuppressionRemoved]


class SuppressionItem(msgspec.Struct, frozen=True, kw_only=True):
    """An address that gets no mail."""

    id: str
    email: str
    origin: Annotated[Origin, Meta(description="`reason` in three words: unsubscribed is `manual`.")]
    reason: SuppressionReason
    source_id: str | None
    note: str | None
    created_at: datetime
    expires_at: datetime | None


class SuppressionView(SuppressionItem, frozen=True, kw_only=True):
    """One of them by itself."""

    object: Literal["suppression"] = "suppression"


class SuppressionList(msgspec.Struct, frozen=True):
    """A page of suppressions, newest first."""

    has_more: bool
    data: list[SuppressionItem]
    object: Literal["list"] = "list"


class PeriodUse(msgspec.Struct, frozen=True):
    """The recipients of a day or a month; `limit` is null where there is none. This gateway receives no mail."""

    used: int
    limit: int | None
    sent: int
    resets_at: datetime
    received: int = 0


class EmailsUse(msgspec.Struct, frozen=True):
    """What was accepted, a unit for each recipient."""

    daily: PeriodUse
    monthly: PeriodUse


class RateView(msgspec.Struct, frozen=True):
    """How many requests an API key may make within `duration`, such as `1000ms`."""

    limit: int
    duration: str


class Usage(msgspec.Struct, frozen=True):
    """What the tenant has used of what it may; `rate_limit` is null where there is none."""

    emails: EmailsUse
    rate_limit: RateView | None
    object: Literal["usage"] = "usage"


class Live(msgspec.Struct, frozen=True):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Checks(msgspec.Struct, frozen=True, rename="camel"):
    """What readiness looked at, in words; `transport` only where mail is kept though people expect it."""

    secrets_manager: Literal["ok", "degraded", "disabled"]
    database: Literal["ok", "unavailable"]
    redis: Literal["ok", "unavailable", "disabled"]
    transport: Literal["inbox"] | msgspec.UnsetType = msgspec.UNSET


class Ready(msgspec.Struct, frozen=True):
    """Whether mail can be accepted: `degraded` still accepts, `unhealthy` does not."""

    status: Literal["healthy", "degraded", "unhealthy"]
    checks: Checks
