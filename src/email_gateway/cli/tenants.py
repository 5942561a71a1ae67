"""`email-gateway tenants`: who may send, and with which keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from email_gateway.cli import tenant_keys
from email_gateway.cli.choosing import check_reason, get_tenant
from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say, show
from email_gateway.cli.tenant_keys import print_secret
from email_gateway.store.accounts import (
    ApiKey,
    NewApiKey,
    Tenant,
    create_api_key,
    create_tenant,
    list_api_keys,
    list_tenants,
    rename_tenant,
    resume_tenant,
    suspend_tenant,
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make, suspend and list tenants and their API keys.",
)
app.add_typer(tenant_keys.app, name="keys")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
Reason = Annotated[
    str | None, typer.Option(help="Why, for the audit; nothing personal.", callback=check_reason, show_default=False)
]


@app.command("list", epilog=examples("email-gateway tenants list"))
def list_all(home: HomeDir = None, as_json: AsJson = False) -> None:
    """List the tenants."""
    found = asyncio.run(_list_tenants(home))
    if as_json:
        print_json({"tenants": found})
    else:
        rows = [(tenant.name, tenant.tenant_id, tenant.created_at, tenant.suspended_at) for tenant in found]
        print_table("Tenants", ["name", "id", "created", "suspended"], rows)


@app.command("show", epilog=examples("email-gateway tenants show billing"))
def show_one(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show a tenant, and how many keys open for it."""
    tenant, keys = asyncio.run(_show(name, home))
    if as_json:
        print_json({"tenant": tenant, "keys": keys})
        return
    say(f"tenant   {tenant.name} ({tenant.tenant_id})")
    say(f"made     {show(tenant.created_at)}")
    if tenant.suspended_at is not None:
        say(f"suspended {show(tenant.suspended_at)}: none of its keys opens anything")
    say(f"keys     {sum(key.revoked_at is None for key in keys)}; `email-gateway tenants keys list` shows them")


@app.command(epilog=examples("email-gateway tenants create billing"))
def create(name: Name, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Make a tenant with a first API key, which is shown this once and kept nowhere."""
    tenant, made = asyncio.run(_create(name, home))
    if as_json:
        print_json({"tenant": tenant, "api_key": made.secret, "key": made.key})
    else:
        say(f"tenant   {tenant.name} ({tenant.tenant_id})")
        print_secret(made)


@app.command(epilog=examples("email-gateway tenants rename billing invoices"))
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a tenant another name; its keys and its mail stay as they are."""

    async def act() -> Tenant:
        async with open_database(home) as db:
            found = await get_tenant(db, name)
            return await rename_tenant(db, found.tenant_id, new_name, actor=name_of_user())

    _say_done(asyncio.run(act()), f"renamed  {name} to {new_name}", as_json)


@app.command(epilog=examples('email-gateway tenants suspend billing --reason "ticket 4711: a key leaked"'))
def suspend(name: Name, reason: Reason = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Refuse every key of a tenant, on every process within two seconds; what was accepted is still delivered."""
    tenant = asyncio.run(_turn(suspend_tenant, name, reason, home))
    _say_done(tenant, f"suspended {tenant.name}; `email-gateway tenants resume` lets its keys open again", as_json)


@app.command(epilog=examples("email-gateway tenants resume billing"))
def resume(name: Name, reason: Reason = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Let a suspended tenant's keys open again."""
    tenant = asyncio.run(_turn(resume_tenant, name, reason, home))
    _say_done(tenant, f"resumed  {tenant.name}", as_json)


async def _list_tenants(home: HomeDir) -> list[Tenant]:
    async with open_database(home) as db:
        return await list_tenants(db)


async def _show(name: str, home: HomeDir) -> tuple[Tenant, list[ApiKey]]:
    async with open_database(home) as db:
        tenant = await get_tenant(db, name)
        return tenant, await list_api_keys(db, tenant.tenant_id)


async def _create(name: str, home: HomeDir) -> tuple[Tenant, NewApiKey]:
    async with open_database(home) as db:
        tenant = await create_tenant(db, name, actor=name_of_user())
        return tenant, await create_api_key(db, tenant.tenant_id, "first key", actor=name_of_user())


async def _turn(act: Callable[..., Awaitable[Tenant]], name: str, reason: str | None, home: HomeDir) -> Tenant:
    async with open_database(home) as db:
        found = await get_tenant(db, name)
        return await act(db, found.tenant_id, actor=name_of_user(), reason=reason)


def _say_done(tenant: Tenant, line: str, as_json: bool) -> None:
    if as_json:
        print_json({"tenant": tenant})
    else:
        say(line)
