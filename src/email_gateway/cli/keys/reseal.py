"""`email-gateway keys reseal`: old values under the newest key."""

import time
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

import typer
import uvloop

from email_gateway.cli.connecting import name_of_user, open_vault
from email_gateway.cli.exits import FAILED
from email_gateway.cli.keys.choosing import AllTenants, TenantName, list_chosen, require_choice
from email_gateway.cli.keys.walking import WalkBar, walk_bar
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.rekeying.reseal import Resealing
from email_gateway.rekeying.walking import Pace
from email_gateway.store.accounts import Tenant
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database
from email_gateway.store.key_walks import Counts, Relation
from email_gateway.vault.keyring import Keyring

app = typer.Typer()

# A tenth of what a small machine can do, so that mail does not notice.
POLITE_RATE = 2_000
Rate = Annotated[int, typer.Option(min=0, metavar="N", help="Values per second at most; 0 is as fast as it goes.")]


@dataclass(frozen=True, slots=True)
class Resealed:
    """What came of one table of one tenant; `unreadable` are the rows whose values do not open."""

    tenant: str
    relation: Relation
    counts: Counts
    unreadable: list[UUID] = field(default_factory=list)


@app.command(
    epilog=examples(
        "email-gateway keys renew --tenant billing && email-gateway keys reseal --tenant billing",
        "email-gateway keys reseal --all --rate 0",
    )
)
def reseal(
    tenant: TenantName = None,
    is_all: AllTenants = False,
    rate: Rate = POLITE_RATE,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Move every sealed value that is under an older field key to the tenant's newest one.

    Mail flows meanwhile. It can be stopped or killed at any moment: the same command goes on from
    there. A value that changed while it was worked on is left to the next run. One that does not
    open is named, stays as it is, and makes the exit code 1.
    """
    require_choice(tenant, is_all)
    began = time.monotonic()
    done: list[Resealed] = uvloop.run(_reseal(tenant, rate, home, as_json))
    if as_json:
        print_json({"resealed": done, "seconds": round(time.monotonic() - began, 3)})
    else:
        _print(done)
    if any(each.counts.unreadable for each in done):
        raise typer.Exit(FAILED)


async def _reseal(name: str | None, rate: int, home: HomeDir, as_json: bool) -> list[Resealed]:
    pace, done = Pace(rate), []
    with walk_bar(as_json=as_json) as bar:
        async with open_vault(home) as (db, keyring):
            for tenant in await list_chosen(db, name):
                done += await reseal_tenant(db, keyring, tenant, pace, bar)
    return done


async def reseal_tenant(db: Database, keyring: Keyring, tenant: Tenant, pace: Pace, bar: WalkBar) -> list[Resealed]:
    """Move the values of every table of one tenant, and return what came of each."""
    key_id = (await keyring.tenant(tenant.tenant_id)).field_key.key_id
    await add_audit(
        db, actor=name_of_user(), action="values.resealed", tenant_id=tenant.tenant_id, subject=key_id.hex()
    )
    done = []
    for relation in Relation:
        work = Resealing(db, keyring, tenant.tenant_id, relation)
        bar.begin(f"{tenant.name}: {relation}", await work.count_rows())
        counts = await work.run(pace, bar.advance)
        done.append(Resealed(tenant.name, relation, counts, bar.unreadable))
    return done


def _print(done: list[Resealed]) -> None:
    for each in done:
        for row_id in each.unreadable:
            say(f"does not open: {each.relation} {row_id} of {each.tenant}")
    rows = [
        (each.tenant, each.relation, each.counts.moved, each.counts.skipped, each.counts.unreadable) for each in done
    ]
    print_table("Values", ["tenant", "table", "moved", "changed meanwhile", "do not open"], rows)
