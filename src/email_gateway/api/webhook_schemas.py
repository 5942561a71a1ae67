"""What callers send and receive about webhooks: these declarations decode, validate, encode and document."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.mail.webhooks import EVENTS

ENDPOINT = "Where events are sent, `https://host/path`; http on this machine alone, outside production."
EVENT_LIST = f"Which events: {', '.join(f'`{name}`' for name in EVENTS)}."
PERSONAL = "Whether events say sender, recipients and subject, and what the server said. False unless it is asked for."
Status = Literal["enabled", "disabled"]


class CreateWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to make."""

    endpoint: Annotated[str, Meta(description=ENDPOINT)]
    events: Annotated[list[str], Meta(description=EVENT_LIST)]
    include_personal: Annotated[bool, Meta(description=PERSONAL)] = False


class UpdateWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a webhook; who enables it has what waits tried at once."""

    endpoint: Annotated[str | None, Meta(description=ENDPOINT)] = None
    events: Annotated[list[str] | None, Meta(description=EVENT_LIST)] = None
    status: Annotated[Status | None, Meta(description="Disabled ones are sent nothing.")] = None
    include_personal: Annotated[bool | None, Meta(description=PERSONAL)] = None
    webhook_id: Annotated[UUID | None, Meta(description="That of the path, as Resend's SDK for Python repeats it.")] = (
        None
    )


class WebhookId(msgspec.Struct, frozen=True):
    """The id of a webhook."""

    id: str
    object: Literal["webhook"] = "webhook"


class WebhookSecret(msgspec.Struct, frozen=True):
    """The id of a webhook, and the secret that its receiver verifies with."""

    id: str
    signing_secret: str
    object: Literal["webhook"] = "webhook"


class WebhookDeleted(msgspec.Struct, frozen=True):
    """The id of a webhook that is no more."""

    id: str
    deleted: bool = True
    object: Literal["webhook"] = "webhook"


class WebhookSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook in a list; `disabled_by` is `caller`, or `failures` when it failed for days."""

    id: str
    endpoint: str
    events: list[str]
    status: Status
    disabled_by: str | None
    include_personal: bool
    created_at: datetime


class WebhookView(WebhookSummary, frozen=True, kw_only=True):
    """A webhook with its secret."""

    object: Literal["webhook"] = "webhook"
    signing_secret: str


class WebhookList(msgspec.Struct, frozen=True):
    """A page of webhooks, newest first."""

    has_more: bool
    data: list[WebhookSummary]
    object: Literal["list"] = "list"


class WebhookEventSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to a webhook: its id is the `webhook-id` of what is sent."""

    id: str
    type: str
    email_id: str | None
    created_at: datetime
    status: Literal["pending", "attempting", "success", "failed"]
    attempts: int
    next_attempt_at: datetime | None


class WebhookEventList(msgspec.Struct, frozen=True):
    """A page of what was sent to a webhook, newest first."""

    has_more: bool
    data: list[WebhookEventSummary]
    object: Literal["list"] = "list"


class WebhookEventId(msgspec.Struct, frozen=True):
    """The id of an event that is sent again."""

    id: str
    object: Literal["webhook_event"] = "webhook_event"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The last attempt: the endpoint's status (0 where none came), and the beginning of what it said, or why it said nothing."""

    id: str
    http_status_code: int
    response: str
    result: str | None
    milliseconds: int | None
    sent_at: datetime


class AttemptList(msgspec.Struct, frozen=True):
    """The last attempt of an event, if there was one."""

    data: list[Attempt]
    has_more: bool = False
    object: Literal["list"] = "list"
