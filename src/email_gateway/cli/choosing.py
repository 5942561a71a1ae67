"""Options by which the operator's commands name mail: a domain, a tenant, an age, a reason for the audit."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from email_gateway.cli.exits import CommandFailed
from email_gateway.store.accounts import Tenant, find_tenant_by_name
from email_gateway.store.database import Queries

MIN_REASON, MAX_REASON = 3, 200
UNITS = {"m": 60, "h": 3_600, "d": 86_400}


def check_reason(text: str | None) -> str | None:
    """Refuse a reason that says nothing, or too much."""
    if text is not None and not MIN_REASON <= len(text.strip()) <= MAX_REASON:
        raise typer.BadParameter(f"say why in {MIN_REASON} to {MAX_REASON} characters; nothing personal")
    return text.strip() if text else text


Reason = Annotated[
    str, typer.Option(help="Why, for the audit and for whoever looks next; nothing personal.", callback=check_reason)
]


async def get_tenant(db: Queries, name: str) -> Tenant:
    """Return the tenant of this name; raises CommandFailed when there is none."""
    tenant = await find_tenant_by_name(db, name)
    if tenant is None:
        raise CommandFailed("there is no tenant of this name", "`email-gateway tenants list` shows them")
    return tenant


async def find_tenant_id(db: Queries, text: str) -> UUID:
    """Return a tenant's id, from its id or its name; raises CommandFailed for an unknown name."""
    try:
        return UUID(text)
    except ValueError:
        return (await get_tenant(db, text)).tenant_id


def parse_age(text: str, option: str) -> timedelta:
    """Read an age such as 30m, 12h or 7d; raises BadParameter, which names the option."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise typer.BadParameter("write an age such as 30m, 12h or 7d", param_hint=option)
    return timedelta(seconds=int(number) * UNITS[unit])
