"""The operator's sending domains under /admin/domains: add, list, show, verify, rotate, remove."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_cursor, parse_id, parse_limit
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.domain_views import DomainDetail, domain_detail, verified_view
from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import add_domain, rotate_domain, verify_domain
from email_gateway.store.domains import Domain, get_domain_by_id, list_domains, remove_domain
from email_gateway.store.pages import Page


class NewDomain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A domain that a tenant is to send from."""

    tenant_id: UUID
    name: Annotated[str, Meta(description="Such as example.com.", max_length=255)]


class DomainDetails(msgspec.Struct, frozen=True):
    """A page of domains, newest first."""

    has_more: bool
    data: list[DomainDetail]
    object: str = "list"


class DomainRemoved(msgspec.Struct, frozen=True):
    """A domain that is gone, with its keys."""

    id: str
    deleted: bool = True


_NEW = BodyDecoder[NewDomain](NewDomain)
_ENCODE = msgspec.json.Encoder().encode


async def list_admin_domains(context: ApiContext, call: Call) -> Reply:
    """Return a page of domains, of every tenant or of one."""
    query = call.query()
    tenant = parse_cursor(query["tenant_id"], "tenant_id") if "tenant_id" in query else None
    after = parse_cursor(query["after"], "after") if "after" in query else None
    domains, has_more = await list_domains(context.db, tenant, Page(parse_limit(query.get("limit")), after))
    return Reply(200, _ENCODE(DomainDetails(has_more, [domain_detail(domain) for domain in domains])))


async def add_admin_domain(context: ApiContext, call: Call) -> Reply:
    """Add a domain to a tenant, with keys to publish."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _NEW.decode(body)
    domain = await add_domain(context.db, context.keyring, wanted.tenant_id, wanted.name, actor=call.actor)
    return Reply(201, _ENCODE(domain_detail(domain)))


async def get_admin_domain(context: ApiContext, call: Call) -> Reply:
    """Return one domain with its keys and records."""
    return Reply(200, _ENCODE(domain_detail(await _find(context, call))))


async def verify_admin_domain(context: ApiContext, call: Call) -> Reply:
    """Ask the DNS, and let the keys sign that it shows; 503 when it does not answer."""
    resolver = Resolver(context.settings.dns_resolvers)
    domain, sight = await verify_domain(context.db, resolver, await _find(context, call), actor=call.actor)
    return Reply(200, _ENCODE(verified_view(domain, sight)))


async def rotate_admin_domain(context: ApiContext, call: Call) -> Reply:
    """Make new keys, which take over once they are published and the domain is verified."""
    domain = await rotate_domain(context.db, context.keyring, await _find(context, call), actor=call.actor)
    return Reply(200, _ENCODE(domain_detail(domain)))


async def remove_admin_domain(context: ApiContext, call: Call) -> Reply:
    """Remove a domain and destroy its keys."""
    domain = await _find(context, call)
    await remove_domain(context.db, domain.tenant_id, domain.domain_id, actor=call.actor)
    return Reply(200, _ENCODE(DomainRemoved(str(domain.domain_id))))


async def _find(context: ApiContext, call: Call) -> Domain:
    return await get_domain_by_id(context.db, parse_id(call.params["domain_id"], "domain"))
