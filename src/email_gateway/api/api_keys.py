"""A tenant's own API keys under /v1/api-keys, in Resend's JSON: make, list, rename, delete."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_id, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.errors import Fault, InvalidRequest, NotFound
from email_gateway.mail.addresses import parse_domain
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue
from email_gateway.store.accounts import (
    FULL_ACCESS,
    SENDING_ACCESS,
    ApiKey,
    create_api_key,
    list_live_api_keys,
    rename_api_key,
    revoke_api_key,
)
from email_gateway.store.domains import get_domain

Permission = Literal["full_access", "sending_access"]
KeyName = Annotated[str, Meta(description="What the key is for; nothing personal.", min_length=1, max_length=100)]
DomainId = Annotated[
    str,
    Meta(
        description="The one domain that a key with `sending_access` may send from, by its id or its name.",
        max_length=255,
    ),
]


class CreateApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made. It gets the networks and the end of the key that makes it."""

    name: KeyName
    permission: Permission | None = None
    domain_id: DomainId | None = None


class RenameApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key's new name."""

    name: KeyName


class ApiKeyCreated(msgspec.Struct, frozen=True):
    """A key just made; its token is shown this once."""

    id: str
    token: str


class ApiKeyView(msgspec.Struct, frozen=True):
    """A key without its token; `prefix` is how the token begins."""

    id: str
    name: str
    prefix: str
    permission: Permission
    domain_id: str | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class ApiKeyList(msgspec.Struct, frozen=True):
    """A page of keys, newest first."""

    has_more: bool
    data: list[ApiKeyView]
    object: Literal["list"] = "list"


class ApiKeyRenamed(msgspec.Struct, frozen=True):
    """The key that has another name now."""

    id: str
    object: Literal["api_key"] = "api_key"


class ApiKeyDeleted(msgspec.Struct, frozen=True):
    """The key that opens nothing any more."""

    id: str
    object: Literal["api_key"] = "api_key"
    deleted: bool = True


_CREATE = BodyDecoder[CreateApiKey](CreateApiKey)
_RENAME = BodyDecoder[RenameApiKey](RenameApiKey)
_ENCODE = msgspec.json.Encoder().encode


async def create_key(context: ApiContext, call: Call) -> Reply:
    """Make a key that may do no more than the one that makes it."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _CREATE.decode(body)
    check_name(wanted.name)
    permission = wanted.permission or FULL_ACCESS
    maker = call.account
    assert maker is not None  # the route takes an API key
    domain = await _name_of_domain(context, call, wanted.domain_id)
    made = await create_api_key(
        context.db,
        maker.tenant_id,
        wanted.name,
        actor=call.api_key_actor,
        scopes=(permission,),
        allowed_networks=maker.allowed_networks,
        expires_at=maker.expires_at,
        sender_domain=parse_sender_domain(domain, (permission,)),
    )
    return Reply(201, _ENCODE(ApiKeyCreated(str(made.key.api_key_id), made.secret)))


async def list_keys(context: ApiContext, call: Call) -> Reply:
    """Return a page of the tenant's keys, newest first, without those that were deleted."""
    keys, has_more = await list_live_api_keys(context.db, call.tenant_id, parse_page(call.query()))
    return Reply(200, _ENCODE(ApiKeyList(has_more, [_view(key) for key in keys])))


async def rename_key(context: ApiContext, call: Call) -> Reply:
    """Give a key another name."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    name = _RENAME.decode(body).name
    check_name(name)
    key_id = parse_id(call.params["api_key_id"], "API key")
    await rename_api_key(context.db, call.tenant_id, key_id, name, actor=call.api_key_actor)
    return Reply(200, _ENCODE(ApiKeyRenamed(str(key_id))))


async def delete_key(context: ApiContext, call: Call) -> Reply:
    """End a key for good, also the one that asks; again the same answer."""
    key_id = parse_id(call.params["api_key_id"], "API key")
    await revoke_api_key(context.db, call.tenant_id, key_id, actor=call.api_key_actor)
    return Reply(200, _ENCODE(ApiKeyDeleted(str(key_id))))


def check_name(name: str) -> None:
    """Refuse a name that would steer a terminal, or that nobody can see."""
    if not name.strip() or UNSAFE_IN_NAMES.search(name):
        raise InvalidRequest("the name is not valid", (Fault("/name", "use 1 to 100 visible characters"),))


async def _name_of_domain(context: ApiContext, call: Call, text: str | None) -> str | None:
    """Return the name of the domain that a key is to be bound to, where its id was given; a name is one already."""
    try:
        domain_id = UUID(text or "")
    except ValueError:
        return text
    try:
        return (await get_domain(context.db, call.tenant_id, domain_id)).name
    except NotFound:
        fault = Fault("/domain_id", "give the id or the name of one of your domains: GET /v1/domains lists them")
        raise InvalidRequest("the key is not valid", (fault,)) from None


def parse_sender_domain(text: str | None, scopes: tuple[str, ...]) -> str | None:
    """Return the domain that a key is bound to; raises InvalidRequest, also for a key that may do more than send."""
    if text is None:
        return None
    if scopes != (SENDING_ACCESS,):
        fault = Fault("/domain_id", "leave it out, or give the key sending_access: a key that may do all has no bounds")
        raise InvalidRequest("the key is not valid", (fault,))
    try:
        return parse_domain(text)
    except InvalidValue:
        fault = Fault("/domain_id", "write the domain's name, such as acme.example")
        raise InvalidRequest("the key is not valid", (fault,)) from None


def _view(key: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=str(key.api_key_id),
        name=key.name,
        prefix=key.prefix,
        permission="full_access" if FULL_ACCESS in key.scopes else "sending_access",
        domain_id=key.sender_domain,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
    )
