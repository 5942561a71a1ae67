"""Which tenants a command is about."""

from typing import Annotated

import typer

from email_gateway.cli.choosing import get_tenant
from email_gateway.store.accounts import Tenant, list_tenants
from email_gateway.store.database import Queries

TenantName = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="One tenant, by its name.")]
AllTenants = Annotated[bool, typer.Option("--all", help="Every tenant, one after the other.")]


def require_choice(name: str | None, is_all: bool) -> None:
    """Raise BadParameter unless either a tenant was named or all were meant."""
    if (name is None) != is_all:
        raise typer.BadParameter("give --tenant NAME, or --all for every tenant", param_hint="--tenant")


async def list_chosen(db: Queries, name: str | None) -> list[Tenant]:
    """Return the tenant of this name, or all where none was named; raises CommandFailed for an unknown one."""
    return await list_tenants(db) if name is None else [await get_tenant(db, name)]
