"""`email-gateway secrets audit`: who read or changed the secrets, by CloudTrail."""

import csv
import sys
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Annotated

import typer

from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.cli.secrets.account import open_account, showing
from email_gateway.operator.trail import LONGEST, TrailEvent, group, list_events

app = typer.Typer()


@app.command(
    epilog=examples("email-gateway secrets audit --days 7", "email-gateway secrets audit --days 90 --csv > audit.csv")
)
def audit(
    days: Annotated[int, typer.Option(min=1, max=LONGEST.days, help="How far back; CloudTrail keeps 90 days.")] = 7,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every event as a line of CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show who read or changed the secrets, and who tried to and was refused.

    People get every change and, of reads, how many of each kind; CSV and JSON have every event. It asks
    CloudTrail's event history of this region, twice a second at most and 50 events at a time: a large fleet
    takes minutes. Events appear there some minutes late.
    """
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")
    with showing("looking through CloudTrail", quiet=as_json or as_csv) as show:
        events = list_events(
            open_account(), timedelta(days=days), lambda seen, ours: show(f"{seen} events, {ours} of our secrets")
        )
    if as_json:
        print_json({"days": days, "events": events})
    elif as_csv:
        _write_csv(events)
    else:
        _print(events, days)


def _write_csv(events: list[TrailEvent]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(field.name for field in fields(TrailEvent))
    for event in events:
        writer.writerow((event.at.isoformat(), *list(asdict(event).values())[1:]))


def _print(events: list[TrailEvent], days: int) -> None:
    changes = [event for event in events if event.is_change]
    rows = [(event.at, event.action, event.secret, event.who, event.source, event.error) for event in changes]
    print_table("Changes", ["at", "what", "secret", "who", "from", "refused"], rows)
    groups = group(event for event in events if not event.is_change)
    print_table(
        "Reads",
        ["what", "secret", "who", "times", "first", "last", "refused"],
        [(each.action, each.secret, each.who, each.count, each.first_at, each.last_at, each.error) for each in groups],
    )
    refused = sum(1 for event in events if event.error)
    say(f"{len(events)} events in {days} days, {len(changes)} changes, {refused} refused")
