"""`email-gateway domains`: whose domains mail may come from, and the keys that sign for them."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import typer

from email_gateway.api.domain_views import DomainDetail, RecordSeen, Verified, domain_detail, verified_view
from email_gateway.cli.choosing import find_tenant_id
from email_gateway.cli.connecting import load_without_keys, name_of_user, open_database, open_vault
from email_gateway.cli.exits import FAILED, CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, print_wrapped, say
from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import add_domain, read_name, rotate_domain, verify_domain
from email_gateway.errors import Conflict, InvalidRequest, NotFound
from email_gateway.mail.domains import DomainState, KeyState
from email_gateway.store import domains as store
from email_gateway.store.accounts import list_tenants
from email_gateway.store.database import Queries
from email_gateway.store.domains import Domain
from email_gateway.store.pages import Page

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Add the domains that tenants send from, verify them in the DNS, and give them new keys.",
)

T = TypeVar("T")
PAGE = 100
Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain behind the @ of its senders.")]
OfTenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose domain it is, by name or id.")]
OfAnyTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Of this tenant only, by name or id.")
]


@app.command(epilog=examples("email-gateway domains add acme.example --tenant billing"))
def add(domain: Name, tenant: OfTenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Add a domain with an RSA and an Ed25519 key, and print the records to publish."""

    async def act() -> Domain:
        async with open_vault(home) as (db, keyring):
            tenant_id = await find_tenant_id(db, tenant)
            return await add_domain(db, keyring, tenant_id, domain, actor=name_of_user())

    _show(_run(act()), as_json)


@app.command("list", epilog=examples("email-gateway domains list", "email-gateway domains list --tenant billing"))
def list_all(tenant: OfAnyTenant = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """List the domains, the newest first."""

    async def read() -> tuple[list[Domain], dict[UUID, str]]:
        async with open_database(home) as db:
            tenant_id = await find_tenant_id(db, tenant) if tenant is not None else None
            found: list[Domain] = []
            has_more = True
            while has_more:
                page = Page(PAGE, after=found[-1].domain_id if found else None)
                domains, has_more = await store.list_domains(db, tenant_id, page)
                found += domains
            return found, {each.tenant_id: each.name for each in await list_tenants(db)}

    found, tenants = asyncio.run(read())
    if as_json:
        print_json({"domains": [msgspec.to_builtins(domain_detail(domain)) for domain in found]})
        return
    rows = [
        (
            domain.name,
            tenants.get(domain.tenant_id, domain.tenant_id),
            domain.state,
            sum(key.state is KeyState.ACTIVE for key in domain.keys),
            domain.created_at,
            domain.checked_at,
        )
        for domain in found
    ]
    print_table("Domains", ["domain", "tenant", "state", "keys that sign", "added", "checked"], rows)


@app.command(epilog=examples("email-gateway domains show acme.example --tenant billing"))
def show(domain: Name, tenant: OfTenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show a domain, its keys and its records, and what to do next."""

    async def act() -> Domain:
        async with open_database(home) as db:
            return await _find(db, tenant, domain)

    _show(_run(act()), as_json)


@app.command(epilog=examples("email-gateway domains verify acme.example --tenant billing"))
def verify(domain: Name, tenant: OfTenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Ask the DNS, and let the keys that it shows sign from now on.

    A domain is verified while the DNS shows one of its RSA keys; otherwise the exit code is 1. SPF and DMARC
    are shown as advice.
    """

    async def act() -> Verified:
        resolver = Resolver(load_without_keys().dns_resolvers)
        async with open_database(home) as db:
            found = await _find(db, tenant, domain)
            return verified_view(*await verify_domain(db, resolver, found, actor=name_of_user()))

    verified = _run(act())
    if as_json:
        print_json(msgspec.to_builtins(verified))
    else:
        _print_verified(verified)
    if verified.domain.state != DomainState.VERIFIED:
        raise typer.Exit(FAILED)


@app.command(epilog=examples("email-gateway domains rotate acme.example --tenant billing"))
def rotate(domain: Name, tenant: OfTenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Make new keys and print their records; once these are published, `verify` has the new keys sign.

    The older keys sign until then. Their records stay published for seven days more, since what they
    have signed is still on its way.
    """

    async def act() -> Domain:
        async with open_vault(home) as (db, keyring):
            return await rotate_domain(db, keyring, await _find(db, tenant, domain), actor=name_of_user())

    _show(_run(act()), as_json)


@app.command(epilog=examples("email-gateway domains remove acme.example --tenant billing"))
def remove(domain: Name, tenant: OfTenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Remove a domain and destroy its keys: mail from it leaves unsigned, or is refused where it must be verified."""

    async def act() -> Domain:
        async with open_database(home) as db:
            found = await _find(db, tenant, domain)
            await store.remove_domain(db, found.tenant_id, found.domain_id, actor=name_of_user())
            return found

    removed = _run(act())
    if as_json:
        print_json({"id": str(removed.domain_id), "deleted": True})
    else:
        say(f"removed {removed.name}: its records may be removed from the DNS")


def _run(act: Coroutine[Any, Any, T]) -> T:
    """Run an act; what the caller must change is said with the next step."""
    try:
        return asyncio.run(act)
    except InvalidRequest as error:
        raise typer.BadParameter(error.faults[0].detail, param_hint="DOMAIN") from None
    except NotFound as error:  # a tenant that was named by an id
        raise CommandFailed(str(error), "`email-gateway tenants list` shows them") from None
    except Conflict as error:
        raise CommandFailed(str(error), "`email-gateway domains show` shows the records") from None


async def _find(db: Queries, tenant: str, name: str) -> Domain:
    found = await store.find_domain_by_name(db, await find_tenant_id(db, tenant), read_name(name))
    if found is None:
        raise CommandFailed("this tenant has no such domain", "`email-gateway domains list` shows them")
    return found


def _show(domain: Domain, as_json: bool) -> None:
    view = domain_detail(domain)
    if as_json:
        print_json(msgspec.to_builtins(view))
    else:
        _print_detail(view)


def _print_detail(view: DomainDetail) -> None:
    say(f"{view.name}: {view.state}")
    for key in view.keys:
        say("")
        until = f", publish it until {key.removable_at:%Y-%m-%d}" if key.state == KeyState.RETIRING else ""
        say(f"  {key.selector}: {key.state}{until}")
        if key.state != KeyState.RETIRED:
            say(f"    {key.record_type}  {key.record_name}")
            say(f"         {key.record_value}")
    say("")
    print_wrapped(view.to_do, indent=0)


def _print_verified(verified: Verified) -> None:
    say(f"{verified.domain.name}: {verified.domain.state}")
    for record in verified.records:
        _print_seen("DKIM", record)
    _print_seen("SPF", verified.spf)
    _print_seen("DMARC", verified.dmarc)
    say("")
    print_wrapped(verified.domain.to_do, indent=0)


def _print_seen(kind: str, record: RecordSeen) -> None:
    say(f"  {kind:<5}  {record.shown:<9}  {record.name}")
    for text in (record.value, record.to_do):
        if text is not None:
            print_wrapped(text, indent=20)
