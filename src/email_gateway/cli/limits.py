"""`email-gateway limits`: what a tenant may send, and what it has used of that."""

import asyncio
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from email_gateway.cli.choosing import find_tenant_id
from email_gateway.cli.connecting import load_without_keys, name_of_user, open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database
from email_gateway.store.quotas import Allowance, Use, find_allowances, find_use, set_allowance

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at what a tenant may send and has sent, and change its limits.",
)

MOST_RATE, MOST_QUOTA = 1_000_000, 10**15

Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Of this tenant, by name or id.")]


@app.command(epilog=examples("email-gateway limits show --tenant billing"))
def show(tenant: Tenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show a tenant's limits, where each comes from, and the recipients of today and of this month (UTC)."""
    chosen, use = asyncio.run(_read(tenant, home))
    settings = load_without_keys()
    defaults = Allowance(
        settings.key_rate, settings.key_burst, settings.tenant_daily_quota, settings.tenant_monthly_quota
    )
    if as_json:
        print_json({"chosen": asdict(chosen), "defaults": asdict(defaults), "use": asdict(use)})
        return
    names = ("requests a second of a key", "of these at once", "recipients a day", "recipients a month")
    zeros = ("no limit", "one second's", "no limit", "no limit")
    used = (None, None, use.today, use.this_month)
    rows = [
        (name, (default if own is None else own) or zero, "the settings" if own is None else "this tenant", spent)
        for name, own, default, zero, spent in zip(names, astuple(chosen), astuple(defaults), zeros, used, strict=True)
    ]
    print_table(f"Limits of {tenant}", ["limit", "is", "chosen for", "used"], rows)


@app.command(
    "set",
    epilog=examples(
        "email-gateway limits set --tenant billing --daily-quota 50000 --key-rate 20",
        "email-gateway limits set --tenant billing --as-settings",
    ),
)
def set_limits(
    tenant: Tenant,
    key_rate: Annotated[
        int | None, typer.Option(min=0, max=MOST_RATE, help="Requests a second of one API key; 0 is no limit.")
    ] = None,
    key_burst: Annotated[
        int | None, typer.Option(min=0, max=MOST_RATE * 100, help="How many of them may come at once.")
    ] = None,
    daily_quota: Annotated[
        int | None, typer.Option(min=0, max=MOST_QUOTA, help="Recipients a day; 0 is no limit.")
    ] = None,
    monthly_quota: Annotated[
        int | None, typer.Option(min=0, max=MOST_QUOTA, help="Recipients a month; 0 is no limit.")
    ] = None,
    as_settings: Annotated[
        bool, typer.Option("--as-settings", help="Those that are not given are as the settings have them.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Choose limits for a tenant; every process follows within seconds. Those that are not given stay as they are."""
    given = Allowance(key_rate, key_burst, daily_quota, monthly_quota)
    if given == Allowance() and not as_settings:
        raise typer.BadParameter("give a limit, or --as-settings")
    chosen = asyncio.run(_set(tenant, given, home, keeps=not as_settings))
    if as_json:
        print_json({"chosen": asdict(chosen)})
    else:
        say(f"limits of {tenant} are set")


async def _read(tenant: str, home: Path | None) -> tuple[Allowance, Use]:
    async with open_database(home) as db:
        tenant_id = await find_tenant_id(db, tenant)
        use = (await find_use(db, [tenant_id]))[tenant_id]
        return await _chosen(db, tenant_id), use


async def _set(tenant: str, given: Allowance, home: Path | None, *, keeps: bool) -> Allowance:
    async with open_database(home) as db:
        tenant_id = await find_tenant_id(db, tenant)
        before = await _chosen(db, tenant_id) if keeps else Allowance()
        values = zip(astuple(given), astuple(before), strict=True)
        chosen = Allowance(*(old if new is None else new for new, old in values))
        async with db.transaction() as transaction:
            await set_allowance(transaction, tenant_id, chosen)
            await add_audit(transaction, actor=name_of_user(), action="limits.set", tenant_id=tenant_id,
                            subject=" ".join(f"{name}={value}" for name, value in asdict(chosen).items()))  # fmt: skip
        return chosen


async def _chosen(db: Database, tenant_id: UUID) -> Allowance:
    return (await find_allowances(db, [tenant_id])).get(tenant_id, Allowance())
