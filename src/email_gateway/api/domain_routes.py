"""The paths of sending domains: a tenant's own under /v1/domains, everybody's under /admin/domains."""

from email_gateway.api import admin_domains, domain_views, domains
from email_gateway.api.parameters import ID, LIMIT, PAGE
from email_gateway.api.routing import Access, Query, Route

OWN = (
    Route(
        method="POST",
        path="/v1/domains",
        handler=domains.create_domain,
        access=Access.FULL,
        summary="Add a domain to send from",
        answer=domains.DomainView,
        status=201,
        body=domains.CreateDomain,
        may_conflict=True,
    ),
    Route(
        method="GET",
        path="/v1/domains",
        handler=domains.list_tenant_domains,
        access=Access.FULL,
        summary="List domains",
        answer=domains.DomainList,
        parameters=PAGE,
    ),
    Route(
        method="GET",
        path="/v1/domains/{domain_id}",
        handler=domains.get_tenant_domain,
        access=Access.FULL,
        summary="Read a domain and its records",
        answer=domains.DomainView,
    ),
    Route(
        method="PATCH",
        path="/v1/domains/{domain_id}",
        handler=domains.update_domain,
        access=Access.FULL,
        summary="Change a domain",
        answer=domains.DomainId,
        body=domains.UpdateDomain,
    ),
    Route(
        method="DELETE",
        path="/v1/domains/{domain_id}",
        handler=domains.delete_domain,
        access=Access.FULL,
        summary="Remove a domain",
        answer=domains.DomainDeleted,
    ),
    Route(
        method="POST",
        path="/v1/domains/{domain_id}/verify",
        handler=domains.verify_tenant_domain,
        access=Access.FULL,
        summary="Verify a domain in the DNS",
        answer=domains.DomainId,
    ),
)
EVERYBODYS = (
    Route(
        method="GET",
        path="/admin/domains",
        handler=admin_domains.list_admin_domains,
        access=Access.ADMIN,
        summary="List everybody's domains",
        answer=admin_domains.DomainDetails,
        parameters=(
            LIMIT,
            Query("after", "Older than this id.", ID),
            Query("tenant_id", "Of this tenant only.", ID),
        ),
    ),
    Route(
        method="POST",
        path="/admin/domains",
        handler=admin_domains.add_admin_domain,
        access=Access.ADMIN,
        summary="Add a domain to a tenant",
        answer=domain_views.DomainDetail,
        status=201,
        body=admin_domains.NewDomain,
        may_conflict=True,
    ),
    Route(
        method="GET",
        path="/admin/domains/{domain_id}",
        handler=admin_domains.get_admin_domain,
        access=Access.ADMIN,
        summary="Show a domain, its keys and records",
        answer=domain_views.DomainDetail,
    ),
    Route(
        method="DELETE",
        path="/admin/domains/{domain_id}",
        handler=admin_domains.remove_admin_domain,
        access=Access.ADMIN,
        summary="Remove a tenant's domain",
        answer=admin_domains.DomainRemoved,
    ),
    Route(
        method="POST",
        path="/admin/domains/{domain_id}/verify",
        handler=admin_domains.verify_admin_domain,
        access=Access.ADMIN,
        summary="Verify a tenant's domain in the DNS",
        answer=domain_views.Verified,
    ),
    Route(
        method="POST",
        path="/admin/domains/{domain_id}/rotate",
        handler=admin_domains.rotate_admin_domain,
        access=Access.ADMIN,
        summary="Make new keys for a domain",
        answer=domain_views.DomainDetail,
        may_conflict=True,
    ),
)
DOMAINS = (*OWN, *EVERYBODYS)
