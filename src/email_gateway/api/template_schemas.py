"""What callers send and receive about templates: these declarations decode, validate, encode and document."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from email_gateway.api.schemas import ADDRESS_LIST
from email_gateway.mail.templates import MAX_KEY_CHARACTERS, MAX_VARIABLES

MAX_NAME_CHARACTERS = 256

TemplateName = Annotated[
    str, Meta(description="Kept in clear: nothing personal.", min_length=1, max_length=MAX_NAME_CHARACTERS)
]
ALIAS = "Another name to send by: ASCII letters, digits, `.`, `_` and `-`. Kept in clear."
HTML = "The HTML body. `{{{NAME}}}` is replaced by a variable's value, escaped."
TEXT = "The plain text body; variables are replaced as they are."
SUBJECT = "Of messages that bring none of their own; may hold variables."
SENDER = "Of messages that bring none of their own: `user@example.com` or `Name <user@example.com>`."


class VariableInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable: without a fallback, every message must give it a value."""

    key: Annotated[str, Meta(description=f"ASCII letters, digits and `_`, at most {MAX_KEY_CHARACTERS}.")]
    type: Annotated[str, Meta(description="`string`, `number` or `boolean`.")]
    fallback_value: Annotated[
        str | int | float | bool | None, Meta(description="Stands in where a message gives no value.")
    ] = None


class CreateTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A template to make, as a draft."""

    name: TemplateName
    html: Annotated[str, Meta(description=HTML)]
    text: Annotated[str | None, Meta(description=TEXT)] = None
    alias: Annotated[str | None, Meta(description=ALIAS)] = None
    subject: Annotated[str | None, Meta(description=SUBJECT)] = None
    sender: Annotated[str | None, Meta(description=SENDER)] = None
    reply_to: Annotated[str | list[str] | None, Meta(description=ADDRESS_LIST)] = None
    variables: Annotated[list[VariableInput] | None, Meta(description=f"At most {MAX_VARIABLES}, each key once.")] = (
        None
    )


class UpdateTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """What to change of a template's draft; null takes an optional field away."""

    name: TemplateName | UnsetType = UNSET
    html: Annotated[str, Meta(description=HTML)] | UnsetType = UNSET
    text: Annotated[str | None, Meta(description=TEXT)] | UnsetType = UNSET
    alias: Annotated[str | None, Meta(description=ALIAS)] | UnsetType = UNSET
    subject: Annotated[str | None, Meta(description=SUBJECT)] | UnsetType = UNSET
    sender: Annotated[str | None, Meta(description=SENDER)] | UnsetType = UNSET
    reply_to: Annotated[str | list[str] | None, Meta(description=ADDRESS_LIST)] | UnsetType = UNSET
    variables: Annotated[list[VariableInput] | None, Meta(description="All of them.")] | UnsetType = UNSET


class TemplateId(msgspec.Struct, frozen=True):
    """The id of a template."""

    id: str
    object: Literal["template"] = "template"


class TemplateDeleted(msgspec.Struct, frozen=True):
    """The id of a template that is no more."""

    id: str
    deleted: bool = True
    object: Literal["template"] = "template"


class VariableView(msgspec.Struct, frozen=True):
    """A variable of a template; the moments are those of the template."""

    id: str
    key: str
    type: str
    fallback_value: str | int | float | bool | None
    created_at: datetime
    updated_at: datetime


class TemplateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A template in a list."""

    id: str
    name: str
    alias: str | None
    status: Literal["draft", "published"]
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None


class TemplateView(TemplateSummary, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A template as it is edited; what is sent is what was published last."""

    object: Literal["template"] = "template"
    current_version_id: str
    has_unpublished_versions: bool
    sender: str | None
    subject: str | None
    reply_to: list[str] | None
    html: str
    text: str | None
    variables: list[VariableView]


class TemplateList(msgspec.Struct, frozen=True):
    """A page of templates, newest first."""

    has_more: bool
    data: list[TemplateSummary]
    object: Literal["list"] = "list"
