"""Tenants under /admin/tenants, and their API keys: make, rename, suspend, resume; make, rotate and revoke keys."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.api_keys import DomainId, KeyName, Permission, check_name, parse_sender_domain
from email_gateway.api.calls import Call, Reply, parse_id
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.store.accounts import (
    LONGEST_OVERLAP,
    OVERLAP,
    ApiKey,
    NewApiKey,
    Tenant,
    create_api_key,
    create_tenant,
    get_tenant,
    list_api_keys,
    list_tenants,
    rename_tenant,
    resume_tenant,
    revoke_api_key,
    rotate_api_key,
    suspend_tenant,
)

Network = Annotated[str, Meta(description="Such as `10.0.0.0/8` or `2001:db8::/32`.", max_length=50)]
TenantName = Annotated[str, Meta(description="What operators call the tenant.", min_length=1, max_length=100)]


class TenantView(msgspec.Struct, frozen=True):
    """A tenant; while `suspended_at` is set none of its keys opens anything."""

    id: str
    name: str
    created_at: datetime
    suspended_at: datetime | None
    object: Literal["tenant"] = "tenant"


class TenantList(msgspec.Struct, frozen=True):
    """Every tenant, oldest first."""

    data: list[TenantView]
    has_more: bool = False
    object: Literal["list"] = "list"


class NamedTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a tenant that is made or renamed; no two have the same."""

    name: TenantName


class SuspensionAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a tenant is suspended or resumed, for the audit."""

    reason: Annotated[str, Meta(description="Nothing personal.", max_length=200)] | None = None


class TenantKeyView(msgspec.Struct, frozen=True):
    """A tenant's key without its token; `prefix` is how the token begins."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    allowed_networks: list[str]
    domain_id: str | None
    created_at: datetime
    last_used_at: Annotated[datetime | None, Meta(description="Written at most once a minute.")]
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: Annotated[str | None, Meta(description="The key that was made in its place by a rotation.")]
    object: Literal["api_key"] = "api_key"


class TenantKeyList(msgspec.Struct, frozen=True):
    """A tenant's keys, revoked ones included, oldest first."""

    data: list[TenantKeyView]
    has_more: bool = False
    object: Literal["list"] = "list"


class CreateTenantKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made for a tenant."""

    name: KeyName
    scopes: Annotated[tuple[Permission, ...], Meta(min_length=1, max_length=2)] = ("full_access",)
    allowed_networks: Annotated[
        list[Network], Meta(description="Where it may be used from; empty: anywhere.", max_length=50)
    ] = []
    domain_id: DomainId | None = None
    expires_at: Annotated[datetime, Meta(description="When it ends by itself.", tz=True)] | None = None


class RotateTenantKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long the old key and the new one both open."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=int(LONGEST_OVERLAP.total_seconds()))] = int(OVERLAP.total_seconds())


class TenantKeyMade(msgspec.Struct, frozen=True):
    """A key just made; its token is shown this once."""

    token: str
    key: TenantKeyView


_NAMED = BodyDecoder[NamedTenant](NamedTenant)
_SUSPENSION = BodyDecoder[SuspensionAct](SuspensionAct)
_CREATE_KEY = BodyDecoder[CreateTenantKey](CreateTenantKey)
_ROTATE_KEY = BodyDecoder[RotateTenantKey](RotateTenantKey)
_ENCODE = msgspec.json.Encoder().encode


async def list_all_tenants(context: ApiContext, _call: Call) -> Reply:
    """Return every tenant, oldest first."""
    return Reply(200, _ENCODE(TenantList([_view(tenant) for tenant in await list_tenants(context.db)])))


async def add_tenant(context: ApiContext, call: Call) -> Reply:
    """Make a tenant, which has no key yet."""
    return _reply(await create_tenant(context.db, await _read_name(call), actor=call.actor), 201)


async def show_tenant(context: ApiContext, call: Call) -> Reply:
    """Return one tenant."""
    return _reply(await get_tenant(context.db, _tenant_id(call)))


async def change_tenant(context: ApiContext, call: Call) -> Reply:
    """Give a tenant another name."""
    return _reply(await rename_tenant(context.db, _tenant_id(call), await _read_name(call), actor=call.actor))


async def suspend(context: ApiContext, call: Call) -> Reply:
    """Have every key of a tenant refused within two seconds; what was accepted is still delivered."""
    reason = await _read_reason(call)
    return _reply(await suspend_tenant(context.db, _tenant_id(call), actor=call.actor, reason=reason))


async def resume(context: ApiContext, call: Call) -> Reply:
    """Let a tenant's keys open again."""
    reason = await _read_reason(call)
    return _reply(await resume_tenant(context.db, _tenant_id(call), actor=call.actor, reason=reason))


async def list_tenant_keys(context: ApiContext, call: Call) -> Reply:
    """Return a tenant's keys with their last use, revoked ones included, oldest first."""
    tenant = await get_tenant(context.db, _tenant_id(call))
    keys = await list_api_keys(context.db, tenant.tenant_id)
    return Reply(200, _ENCODE(TenantKeyList([_key_view(key) for key in keys])))


async def add_tenant_key(context: ApiContext, call: Call) -> Reply:
    """Make a key for a tenant."""
    tenant_id = _tenant_id(call)
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _CREATE_KEY.decode(body)
    check_name(wanted.name)
    scopes = tuple(dict.fromkeys(wanted.scopes))
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise InvalidRequest("the key is not valid", (Fault("/expires_at", "give a moment that is still to come"),))
    made = await create_api_key(
        context.db,
        tenant_id,
        wanted.name,
        actor=call.actor,
        scopes=scopes,
        allowed_networks=[_network(text, index) for index, text in enumerate(wanted.allowed_networks)],
        expires_at=wanted.expires_at,
        sender_domain=parse_sender_domain(wanted.domain_id, scopes),
    )
    return _made(made)


async def rotate_tenant_key(context: ApiContext, call: Call) -> Reply:
    """Make a key in another's place; both open until the old one ends, after `overlap_seconds`."""
    tenant_id, key_id = _tenant_id(call), _key_id(call)
    body = await call.read_small_body()
    wanted = RotateTenantKey()
    if body:
        check_json(call.headers, body)
        wanted = _ROTATE_KEY.decode(body)
    overlap = timedelta(seconds=wanted.overlap_seconds)
    return _made(await rotate_api_key(context.db, tenant_id, key_id, actor=call.actor, overlap=overlap))


async def revoke_tenant_key(context: ApiContext, call: Call) -> Reply:
    """End a key for good, on every process within two seconds; again the same answer."""
    key = await revoke_api_key(context.db, _tenant_id(call), _key_id(call), actor=call.actor)
    return Reply(200, _ENCODE(_key_view(key)))


async def _read_name(call: Call) -> str:
    body = await call.read_small_body()
    check_json(call.headers, body)
    name = _NAMED.decode(body).name
    check_name(name)
    return name


async def _read_reason(call: Call) -> str | None:
    body = await call.read_small_body()
    if not body:
        return None
    check_json(call.headers, body)
    return _SUSPENSION.decode(body).reason


def _tenant_id(call: Call) -> UUID:
    return parse_id(call.params["tenant_id"], "tenant")


def _key_id(call: Call) -> UUID:
    return parse_id(call.params["api_key_id"], "API key")


def _network(text: str, index: int) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        fault = Fault(f"/allowed_networks/{index}", "write a network such as 10.0.0.0/8, no host bits set")
        raise InvalidRequest("the key is not valid", (fault,)) from None


def _reply(tenant: Tenant, status: int = 200) -> Reply:
    return Reply(status, _ENCODE(_view(tenant)))


def _made(made: NewApiKey) -> Reply:
    return Reply(201, _ENCODE(TenantKeyMade(made.secret, _key_view(made.key))))


def _view(tenant: Tenant) -> TenantView:
    return TenantView(str(tenant.tenant_id), tenant.name, tenant.created_at, tenant.suspended_at)


def _key_view(key: ApiKey) -> TenantKeyView:
    return TenantKeyView(
        id=str(key.api_key_id),
        name=key.name,
        prefix=key.prefix,
        scopes=list(key.scopes),
        allowed_networks=[str(network) for network in key.allowed_networks],
        domain_id=key.sender_domain,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        replaced_by=str(key.replaced_by) if key.replaced_by else None,
    )
