"""A tenant's own sending domains under /v1/domains, in Resend's words."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_cursor, parse_id, parse_limit
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import add_domain, verify_domain
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.domains import DomainState, KeyState, key_record_name, key_record_value
from email_gateway.store.domains import DkimKey, Domain, get_domain, list_domains, remove_domain
from email_gateway.store.pages import Page

REGION = "self-hosted"  # the field is there for clients that read it; nothing here has a region


class Capabilities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a domain is for: sending, and nothing else yet."""

    sending: Literal["enabled", "disabled"] = "enabled"
    receiving: Literal["enabled", "disabled"] = "disabled"


class DomainOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Resend lets one choose; only what happens here is taken, the rest is refused by name."""

    open_tracking: bool = False
    click_tracking: bool = False
    tracking_subdomain: Annotated[str, Meta(max_length=63)] | None = None
    tls: Literal["opportunistic", "enforced"] = "opportunistic"
    capabilities: Capabilities = Capabilities()


class CreateDomain(DomainOptions, frozen=True, kw_only=True):
    """A domain to send from."""

    name: Annotated[str, Meta(description="Such as example.com.", max_length=255)]
    region: Annotated[str, Meta(description="Taken and not used: nothing here has a region.", max_length=50)] | None = (
        None
    )
    custom_return_path: Annotated[str, Meta(max_length=63)] | None = None


class UpdateDomain(DomainOptions, frozen=True, kw_only=True):
    """What to change about a domain; `id` is what some clients repeat of the path."""

    id: Annotated[str, Meta(max_length=100)] | None = None


class DomainRecord(msgspec.Struct, frozen=True):
    """A record to publish in the DNS."""

    record: str
    name: str
    type: str
    ttl: str
    status: str
    value: str


class DomainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A domain without its records."""

    id: str
    name: str
    status: Annotated[str, Meta(description="`not_started`, `pending`, `verified` or `failed`.")]
    created_at: datetime
    region: str = REGION
    open_tracking: bool = False
    click_tracking: bool = False
    capabilities: Capabilities = Capabilities()


class DomainView(DomainSummary, frozen=True, kw_only=True):
    """A domain with the records to publish."""

    records: list[DomainRecord]
    object: str = "domain"


class DomainList(msgspec.Struct, frozen=True):
    """A page of domains, newest first."""

    has_more: bool
    data: list[DomainSummary]
    object: str = "list"


class DomainId(msgspec.Struct, frozen=True):
    """The domain that was asked to be verified, or was changed."""

    id: str
    object: str = "domain"


class DomainDeleted(msgspec.Struct, frozen=True):
    """The domain that is gone."""

    id: str
    object: str = "domain"
    deleted: bool = True


_CREATE = BodyDecoder[CreateDomain](CreateDomain)
_UPDATE = BodyDecoder[UpdateDomain](UpdateDomain)
_ENCODE = msgspec.json.Encoder().encode


async def create_domain(context: ApiContext, call: Call) -> Reply:
    """Add a domain, with keys to publish."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _CREATE.decode(body)
    _check_options(wanted)
    domain = await add_domain(context.db, context.keyring, call.tenant_id, wanted.name, actor=_actor(call))
    return Reply(201, _ENCODE(_view(domain)))


async def list_tenant_domains(context: ApiContext, call: Call) -> Reply:
    """Return a page of the tenant's domains."""
    query = call.query()
    after, before = (parse_cursor(query[name], name) if name in query else None for name in ("after", "before"))
    if after is not None and before is not None:
        raise InvalidRequest("the page is not valid", (Fault("/before", "give after or before, not both"),))
    page = Page(parse_limit(query.get("limit")), after, before)
    domains, has_more = await list_domains(context.db, call.tenant_id, page)
    return Reply(200, _ENCODE(DomainList(has_more, [DomainSummary(**_summary(domain)) for domain in domains])))


async def get_tenant_domain(context: ApiContext, call: Call) -> Reply:
    """Return one domain with the records to publish."""
    return Reply(200, _ENCODE(_view(await _find(context, call))))


async def update_domain(context: ApiContext, call: Call) -> Reply:
    """Take what is so anyway, and refuse what would not happen."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    _check_options(_UPDATE.decode(body))
    return Reply(200, _ENCODE(DomainId(str((await _find(context, call)).domain_id))))


async def delete_domain(context: ApiContext, call: Call) -> Reply:
    """Remove a domain and destroy its keys."""
    domain_id = parse_id(call.params["domain_id"], "domain")
    await remove_domain(context.db, call.tenant_id, domain_id, actor=_actor(call))
    return Reply(200, _ENCODE(DomainDeleted(str(domain_id))))


async def verify_tenant_domain(context: ApiContext, call: Call) -> Reply:
    """Ask the DNS now, and let the keys sign that it shows; 503 when it does not answer."""
    resolver = Resolver(context.settings.dns_resolvers)
    domain, _ = await verify_domain(context.db, resolver, await _find(context, call), actor=_actor(call))
    return Reply(200, _ENCODE(DomainId(str(domain.domain_id))))


async def _find(context: ApiContext, call: Call) -> Domain:
    return await get_domain(context.db, call.tenant_id, parse_id(call.params["domain_id"], "domain"))


def _actor(call: Call) -> str:
    assert call.account is not None  # these routes need an API key
    return f"api_key:{call.account.api_key_id}"


def _check_options(wanted: DomainOptions) -> None:
    faults = [
        Fault(f"/{name}", "leave this off: mail is not tracked here")
        for name in ("open_tracking", "click_tracking")
        if getattr(wanted, name)
    ]
    if wanted.tracking_subdomain is not None:
        faults.append(Fault("/tracking_subdomain", "leave this field out: mail is not tracked here"))
    if wanted.tls == "enforced":
        faults.append(Fault("/tls", "leave this out: the operator sets TLS for the route, in SMTP_URL"))
    if wanted.capabilities != Capabilities():
        faults.append(Fault("/capabilities", "leave this out: a domain sends, and nothing is received here"))
    if isinstance(wanted, CreateDomain) and wanted.custom_return_path is not None:
        faults.append(Fault("/custom_return_path", "leave this field out: bounces go to the sender's own address"))
    if faults:
        raise InvalidRequest("the domain is not valid", tuple(faults))


def _view(domain: Domain) -> DomainView:
    return DomainView(
        **_summary(domain), records=[_record(domain, key) for key in domain.keys if key.is_published]
    )  # fmt: skip


def _summary(domain: Domain) -> dict[str, Any]:
    status = str(domain.state)
    if domain.state is DomainState.PENDING and domain.checked_at is None:
        status = "not_started"
    return {
        "id": str(domain.domain_id),
        "name": domain.name,
        "status": status,
        "created_at": domain.created_at,
    }


def _record(domain: Domain, key: DkimKey) -> DomainRecord:
    if key.state is not KeyState.PENDING:
        status = "failed" if domain.state is DomainState.FAILED else "verified"
    else:
        status = "not_started" if domain.checked_at is None else "pending"
    return DomainRecord(
        record="DKIM",
        name=key_record_name(key.selector, domain.name),
        type="TXT",
        ttl="Auto",
        status=status,
        value=key_record_value(key.algorithm, key.public_key),
    )
