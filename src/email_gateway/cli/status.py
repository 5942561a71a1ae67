"""`email-gateway status`: is mail accepted, does it flow, and does the count add up."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from email_gateway.cli.calling import Gateway
from email_gateway.cli.connecting import find_api_url, open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say, show
from email_gateway.mail.deliveries import State
from email_gateway.store.backlog import Backlog, read_backlog
from email_gateway.store.statistics import TenantCounts, list_counts, list_recounts

Recount = Annotated[
    bool, typer.Option("--recount", help="Count all mail anew and compare: an auditor's proof, which takes a while.")
]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(
    epilog=examples(
        "email-gateway status", "email-gateway status --json | python3 -m json.tool", "email-gateway status --recount"
    )
)
def status(home: HomeDir = None, recount: Recount = False, as_json: AsJson = False) -> None:
    """Show the deliveries of each tenant by state, what waits and for how long, and whether mail is accepted.

    In each row accepted equals the sum of the states, at every instant; a difference is a defect. The counts are
    running totals; `--recount` walks over all mail instead, compares, and exits with 1 where they are not equal.
    """
    if recount:
        _report(asyncio.run(_recount(home)), as_json=as_json)
        return
    health = Gateway(find_api_url(home)).health()
    counts, backlog = asyncio.run(_read(home))
    if as_json:
        tenants = [
            {"name": count.name, "tenant_id": count.tenant_id, "accepted": count.accepted, "states": _states(count),
             "difference": count.difference}
            for count in counts
        ]  # fmt: skip
        print_json({"health": health, "queue": asdict(backlog), "tenants": tenants})
    else:
        _print(health, counts, backlog)


async def _read(home: HomeDir) -> tuple[list[TenantCounts], Backlog]:
    async with open_database(home) as db:
        return await list_counts(db), await read_backlog(db)


async def _recount(home: HomeDir) -> dict[str, int]:
    async with open_database(home) as db:
        return await list_recounts(db)


def _report(off: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"off_by": off})
    elif off:
        print_table("Running totals that are off", ["tenant", "off by"], [[name, by] for name, by in off.items()])
    else:
        say("every running total is what a walk over all mail finds")
    if off:
        raise typer.Exit(1)


def _states(count: TenantCounts) -> dict[str, int]:
    return {state.value: count.by_state[state] for state in State}


def _print(health: dict[str, Any], counts: list[TenantCounts], backlog: Backlog) -> None:
    checks = ", ".join(f"{name} {word}" for name, word in health.get("checks", {}).items())
    say(f"api     {health['status']}" + (f" ({checks})" if checks else ""))
    if backlog.due:
        say(f"queue   {backlog.due} due, the oldest for {show(backlog.oldest_due_for)}")
    else:
        say("queue   nothing is due")
    if backlog.next_due_at:
        say(f"        the next retry is due at {show(backlog.next_due_at)}")
    say("")
    rows = [[count.name, count.accepted, *_states(count).values(), count.difference] for count in counts]
    print_table("Deliveries", ["tenant", "accepted", *State, "difference"], rows)
