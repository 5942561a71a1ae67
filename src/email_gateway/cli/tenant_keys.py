"""`email-gateway tenants keys`: a tenant's API keys; each is shown once, when it is made."""

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Annotated

import typer

from email_gateway.cli.choosing import get_tenant
from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say, show
from email_gateway.mail.addresses import parse_domain
from email_gateway.mail.encoding import InvalidValue
from email_gateway.store.accounts import (
    FULL_ACCESS,
    LONGEST_OVERLAP,
    OVERLAP,
    SENDING_ACCESS,
    ApiKey,
    NewApiKey,
    create_api_key,
    list_api_keys,
    revoke_api_key,
    rotate_api_key,
)
from email_gateway.store.database import Queries

HOUR = timedelta(hours=1)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make, list, rotate and revoke a tenant's API keys.",
)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
Key = Annotated[str, typer.Argument(metavar="PREFIX", help="The key's prefix, or its id.")]


@app.command("list", epilog=examples("email-gateway tenants keys list billing"))
def list_all(tenant: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """List a tenant's keys by the part of them that may be shown, with their last use."""
    found = asyncio.run(_list(tenant, home))
    if as_json:
        print_json({"keys": found})
        return
    prefixes = {key.api_key_id: key.prefix for key in found}
    rows = [
        (key.prefix, key.name, key.scopes, key.sender_domain, key.allowed_networks, key.created_at, key.last_used_at,
         key.expires_at, key.revoked_at, prefixes.get(key.replaced_by) if key.replaced_by else None)
        for key in found
    ]  # fmt: skip
    columns = [
        "prefix", "name", "scopes", "domain", "networks", "created", "last used", "expires", "revoked", "replaced by",
    ]  # fmt: skip
    print_table(f"API keys of {tenant}", columns, rows)


@app.command(
    epilog=examples(
        "email-gateway tenants keys create billing --name invoices --network 10.1.0.0/16 --expires-days 90",
        "email-gateway tenants keys create billing --name shop --sending-only --domain acme.example",
    )
)
def create(
    tenant: Name,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    sending_only: Annotated[bool, typer.Option("--sending-only", help="The key may send, and read nothing.")] = False,
    domain: Annotated[
        str | None, typer.Option(help="The one domain that a key with --sending-only may send from.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network that may use it, such as 10.0.0.0/8; give it again for more.")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="It ends after so many days.")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, which is shown this once and kept nowhere."""
    try:
        networks = [ip_network(text) for text in network or ()]
    except ValueError:
        raise typer.BadParameter(
            "give a network such as 10.0.0.0/8, no host bits set", param_hint="--network"
        ) from None
    sender_domain = _parse_domain(domain, sending_only=sending_only)
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None

    async def make() -> NewApiKey:
        async with open_database(home) as db:
            found = await get_tenant(db, tenant)
            return await create_api_key(
                db,
                found.tenant_id,
                name,
                actor=name_of_user(),
                scopes=(SENDING_ACCESS if sending_only else FULL_ACCESS,),
                allowed_networks=networks,
                expires_at=expires_at,
                sender_domain=sender_domain,
            )

    made = asyncio.run(make())
    if as_json:
        print_json({"api_key": made.secret, "key": made.key})
    else:
        print_secret(made)


@app.command(epilog=examples("email-gateway tenants keys rotate billing eg_0f3a9c21 --overlap-hours 72"))
def rotate(
    tenant: Name,
    key: Key,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=LONGEST_OVERLAP // HOUR, help="For how long the old key opens as well.")
    ] = OVERLAP // HOUR,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key in another's place, which is shown this once; the old one ends by itself after the overlap.

    The new key may do what the old one may. One that was made to end gets as long a life again.
    """

    async def make() -> tuple[ApiKey, NewApiKey]:
        async with open_database(home) as db:
            old = await _get_key(db, tenant, key)
            made = await rotate_api_key(
                db, old.tenant_id, old.api_key_id, actor=name_of_user(), overlap=overlap_hours * HOUR
            )
            return await _get_key(db, tenant, str(old.api_key_id)), made

    old, made = asyncio.run(make())
    if as_json:
        print_json({"api_key": made.secret, "key": made.key, "replaced": old})
    else:
        print_secret(made)
        say(f"replaces {old.prefix}, which opens until {show(old.expires_at)}")


@app.command(epilog=examples("email-gateway tenants keys revoke billing eg_0f3a9c21"))
def revoke(tenant: Name, key: Key, home: HomeDir = None, as_json: AsJson = False) -> None:
    """End a key for good, on every process within two seconds."""

    async def end() -> ApiKey:
        async with open_database(home) as db:
            found = await _get_key(db, tenant, key)
            return await revoke_api_key(db, found.tenant_id, found.api_key_id, actor=name_of_user())

    revoked = asyncio.run(end())
    if as_json:
        print_json({"revoked": revoked})
    else:
        say(f"revoked {revoked.prefix}")


def print_secret(made: NewApiKey) -> None:
    """Print the one copy of a key."""
    say(f"api key  {made.secret}")
    say("         shown this once: keep it where your application reads its secrets")


async def _list(tenant: str, home: HomeDir) -> list[ApiKey]:
    async with open_database(home) as db:
        return await list_api_keys(db, (await get_tenant(db, tenant)).tenant_id)


async def _get_key(db: Queries, tenant: str, key: str) -> ApiKey:
    """Return the key of this prefix or id; raises CommandFailed when the tenant has none."""
    owner = await get_tenant(db, tenant)
    for one in await list_api_keys(db, owner.tenant_id):
        if key in (one.prefix, str(one.api_key_id)):
            return one
    raise CommandFailed("this tenant has no such key", f"`email-gateway tenants keys list {tenant}` shows them")


def _parse_domain(text: str | None, *, sending_only: bool) -> str | None:
    if text is None:
        return None
    if not sending_only:
        raise typer.BadParameter("only a key with --sending-only is bound to a domain", param_hint="--domain")
    try:
        return parse_domain(text)
    except InvalidValue:
        raise typer.BadParameter("give the domain's name, such as acme.example", param_hint="--domain") from None
