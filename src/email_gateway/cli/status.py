"""`email-gateway status`: is mail accepted, does it flow, and does the count add up."""

import asyncio
from dataclasses import asdict
from typing import Any

import typer

from email_gateway.cli.calling import Gateway
from email_gateway.cli.connecting import find_api_url, open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say, show
from email_gateway.mail.deliveries import State
from email_gateway.store.backlog import Backlog, read_backlog
from email_gateway.store.statistics import TenantCounts, list_counts

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples("email-gateway status", "email-gateway status --json | python3 -m json.tool"))
def status(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show the deliveries of each tenant by state, what waits and for how long, and whether mail is accepted.

    In each row accepted equals the sum of the states, at every instant; a difference is a defect.
    """
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
