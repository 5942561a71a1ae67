"""`email-gateway keys index`: the blind index of a tenant under a new key."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar

import typer
import uvloop

from email_gateway.cli.choosing import get_tenant
from email_gateway.cli.connecting import name_of_user, open_vault
from email_gateway.cli.keys.reseal import POLITE_RATE, Rate
from email_gateway.cli.keys.walking import walk_bar
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say, show, show_duration
from email_gateway.rekeying.followers import PATIENCE
from email_gateway.rekeying.index_rotation import IndexRotation, InUse
from email_gateway.rekeying.walking import Pace

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Change the key of a tenant's blind index, by which messages are found.",
)

Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="The tenant, by its name.")]
Wait = Annotated[int, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for slow processes.")]
WAIT = int(PATIENCE.total_seconds())
Result = TypeVar("Result")


@app.command(epilog=examples("email-gateway keys index rotate --tenant billing", "email-gateway keys status"))
def rotate(
    tenant: Tenant, rate: Rate = POLITE_RATE, wait: Wait = WAIT, home: HomeDir = None, as_json: AsJson = False
) -> None:
    """Make a new index key, write under both, copy the index, compare, and search under the new one.

    Every search finds everything at every moment. Run it again after it was stopped, or after it
    named a process that does not follow: it goes on from wherever it stands. A day later
    `keys index drop` ends the old key.
    """
    in_use = uvloop.run(_with_rotation(tenant, rate, wait, home, as_json, lambda rotation: rotation.rotate()))
    if as_json:
        print_json(_as_plain(tenant, in_use))
        return
    say(f"searches read index key {in_use.active.key_id.hex()} since {show(in_use.active.activated_at)}")
    if in_use.beside is not None:
        when = f"in {show_duration(in_use.may_drop_in)}" if in_use.may_drop_in else "now"
        say(f"the old one may go {when}: email-gateway keys index drop --tenant {tenant}")


@app.command(epilog=examples("email-gateway keys index drop --tenant billing"))
def drop(tenant: Tenant, rate: Rate = 0, wait: Wait = WAIT, home: HomeDir = None, as_json: AsJson = False) -> None:
    """End the old index key after a rotation, and delete what stands under it.

    Refused within 24 hours of the switch, as long as an idempotency key lives, and while a process
    still reads the old key. The counts under both keys are compared once more before.
    """
    deleted = uvloop.run(_with_rotation(tenant, rate, wait, home, as_json, lambda rotation: rotation.drop()))
    if as_json:
        print_json({"tenant": tenant, "deleted": deleted})
    else:
        say(f"deleted {deleted} entries of old index keys")


async def _with_rotation(
    name: str, rate: int, wait: int, home: HomeDir, as_json: bool, act: Callable[[IndexRotation], Awaitable[Result]]
) -> Result:
    with walk_bar(as_json=as_json) as bar:
        async with open_vault(home) as (db, keyring):
            tenant_id = (await get_tenant(db, name)).tenant_id

            def announce(step: str) -> None:
                if not as_json:
                    say(step)

            rotation = IndexRotation(
                db, keyring, tenant_id, name_of_user(), announce, bar.advance, Pace(rate), timedelta(seconds=wait)
            )
            bar.begin(f"{name}: index", await rotation.count_rows())
            return await act(rotation)


def _as_plain(tenant: str, in_use: InUse) -> dict[str, object]:
    return {
        "tenant": tenant,
        "active": in_use.active.key_id,
        "outgoing": in_use.beside.key_id if in_use.beside else None,
        "may_drop_in_seconds": round(in_use.may_drop_in.total_seconds()),
    }
