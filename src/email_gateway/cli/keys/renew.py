"""`email-gateway keys renew`: new field keys, on every process at once."""

import asyncio

import typer

from email_gateway.cli.connecting import name_of_user, open_vault
from email_gateway.cli.keys.choosing import AllTenants, TenantName, list_chosen, require_choice
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table
from email_gateway.store.accounts import Tenant

app = typer.Typer()


@app.command(epilog=examples("email-gateway keys renew --tenant billing", "email-gateway keys renew --all"))
def renew(tenant: TenantName = None, is_all: AllTenants = False, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Seal new values under a new field key from now on.

    What was sealed before opens as before, under the key it names. Nothing is sent again, stopped or
    rewritten; `keys reseal` moves the old values, if the old key is to be used no more. Workers do
    this by themselves when a key is FIELD_KEY_DAYS old.
    """
    require_choice(tenant, is_all)
    renewed = asyncio.run(_renew(tenant, home))
    if as_json:
        print_json({"renewed": [{"tenant": one.name, "key_id": key_id} for one, key_id in renewed]})
    else:
        print_table("New field keys", ["tenant", "key"], [(one.name, key_id.hex()) for one, key_id in renewed])


async def _renew(name: str | None, home: HomeDir) -> list[tuple[Tenant, bytes]]:
    async with open_vault(home) as (db, keyring):
        return [
            (tenant, await keyring.renew_field_key(tenant.tenant_id, actor=name_of_user()))
            for tenant in await list_chosen(db, name)
        ]
