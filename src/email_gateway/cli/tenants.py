"""`email-gateway tenants`: who may send, and with which keys."""

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Annotated
from uuid import UUID

import typer

from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.store.accounts import (
    FULL_ACCESS,
    SENDING_ACCESS,
    ApiKey,
    NewApiKey,
    Tenant,
    create_api_key,
    create_tenant,
    find_tenant_by_name,
    list_api_keys,
    list_tenants,
    revoke_api_key,
)
from email_gateway.store.database import Database, Queries

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make and list tenants and their API keys.",
)
keys = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make, list and revoke a tenant's API keys.",
)
app.add_typer(keys, name="keys")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
SendingOnly = Annotated[bool, typer.Option("--sending-only", help="The key may send, and read nothing.")]


@app.command("list", epilog=examples("email-gateway tenants list"))
def list_all(home: HomeDir = None, as_json: AsJson = False) -> None:
    """List the tenants."""
    found = asyncio.run(_list_tenants(home))
    if as_json:
        print_json({"tenants": found})
    else:
        rows = [(tenant.name, tenant.tenant_id, tenant.created_at, tenant.suspended_at) for tenant in found]
        print_table("Tenants", ["name", "id", "created", "suspended"], rows)


@app.command(epilog=examples("email-gateway tenants create billing"))
def create(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Make a tenant with a first API key, which is shown this once and kept nowhere."""
    tenant, made = asyncio.run(_create(name, home))
    if as_json:
        print_json({"tenant": tenant, "api_key": made.secret, "key": made.key})
    else:
        say(f"tenant   {tenant.name} ({tenant.tenant_id})")
        _print_secret(made)


@keys.command("list", epilog=examples("email-gateway tenants keys list billing"))
def list_keys(tenant: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """List a tenant's keys by the part of them that may be shown."""
    found = asyncio.run(_list_keys(tenant, home))
    if as_json:
        print_json({"keys": found})
        return
    rows = [
        (key.prefix, key.name, key.scopes, key.allowed_networks, key.created_at, key.last_used_at, key.expires_at,
         key.revoked_at)
        for key in found
    ]  # fmt: skip
    columns = ["prefix", "name", "scopes", "networks", "created", "last used", "expires", "revoked"]
    print_table(f"API keys of {tenant}", columns, rows)


@keys.command(
    "create",
    epilog=examples("email-gateway tenants keys create billing --name invoices --sending-only --network 10.1.0.0/16"),
)
def create_key(
    tenant: Name,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    sending_only: SendingOnly = False,
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
            )

    made = asyncio.run(make())
    if as_json:
        print_json({"api_key": made.secret, "key": made.key})
    else:
        _print_secret(made)


@keys.command("revoke", epilog=examples("email-gateway tenants keys revoke billing eg_0f3a9c21"))
def revoke_key(
    tenant: Name,
    key: Annotated[str, typer.Argument(metavar="PREFIX", help="The key's prefix, or its id.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """End a key for good, on every process within seconds."""
    revoked = asyncio.run(_revoke(tenant, key, home))
    if as_json:
        print_json({"revoked": revoked})
    else:
        say(f"revoked {revoked.prefix}")


async def _list_tenants(home: HomeDir) -> list[Tenant]:
    async with open_database(home) as db:
        return await list_tenants(db)


async def _create(name: str, home: HomeDir) -> tuple[Tenant, NewApiKey]:
    async with open_database(home) as db:
        tenant = await create_tenant(db, name, actor=name_of_user())
        return tenant, await create_api_key(db, tenant.tenant_id, "first key", actor=name_of_user())


async def _list_keys(tenant: str, home: HomeDir) -> list[ApiKey]:
    async with open_database(home) as db:
        return await list_api_keys(db, (await get_tenant(db, tenant)).tenant_id)


async def _revoke(tenant: str, key: str, home: HomeDir) -> ApiKey:
    async with open_database(home) as db:
        owner = await get_tenant(db, tenant)
        named = [one for one in await list_api_keys(db, owner.tenant_id) if key in (one.prefix, str(one.api_key_id))]
        if not named:
            raise CommandFailed("this tenant has no such key", f"`email-gateway tenants keys list {tenant}` shows them")
        await _revoke_one(db, owner.tenant_id, named[0].api_key_id)
        return named[0]


async def _revoke_one(db: Database, tenant_id: UUID, api_key_id: UUID) -> None:
    await revoke_api_key(db, tenant_id, api_key_id, actor=name_of_user())


async def get_tenant(db: Queries, name: str) -> Tenant:
    """Return the tenant of this name; raises CommandFailed when there is none."""
    tenant = await find_tenant_by_name(db, name)
    if tenant is None:
        raise CommandFailed("there is no tenant of this name", "`email-gateway tenants list` shows them")
    return tenant


def _print_secret(made: NewApiKey) -> None:
    say(f"api key  {made.secret}")
    say("         shown this once: keep it where your application reads its secrets")
