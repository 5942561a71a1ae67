"""`email-gateway send`: one mail through the API, as an application would send it."""

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from email_gateway.cli.calling import Gateway
from email_gateway.cli.connecting import find_api_url, open_home
from email_gateway.cli.exits import FAILED, CommandFailed
from email_gateway.cli.options import HomeDir, examples
from email_gateway.cli.printing import STATE_STYLES, make_console, say
from email_gateway.mail.deliveries import State

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

FINAL = {state.value for state in State} - {State.QUEUED.value, State.SENDING.value}
LOOK_EVERY_SECONDS = 0.1
PATIENCE_SECONDS = 60


@app.command(
    epilog=examples(
        "email-gateway send --to ana@example.net --wait",
        "email-gateway send --to ana@example.net --url https://mail.example.com/v1 --api-key - < key.txt",
    )
)
def send(
    to: Annotated[list[str], typer.Option(help="A recipient; give it again for more.")],
    sender: Annotated[str, typer.Option("--from", help="Who it is from.")] = "Email Gateway <hello@example.com>",
    subject: Annotated[str, typer.Option(help="The subject.")] = "A mail from the command line",
    text: Annotated[str, typer.Option(help="The text.")] = "It works.",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the mail until it is delivered or has failed.")] = False,
    url: Annotated[str | None, typer.Option(help="The API. (Default: that of the running `up`)")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="The API key, - to read it from standard input. (Default: that of the running `up`)"),
    ] = None,
    home: HomeDir = None,
) -> None:
    """Send a mail through the API and print its id.

    With --wait the mail's timeline follows on standard error, and the exit code is 1 unless every
    recipient got it. Standard output is the id alone, for scripts to read.
    """
    gateway = Gateway(url or find_api_url(home), _choose_key(api_key, url, home))
    email_id = str(gateway.post("/emails", {"from": sender, "to": to, "subject": subject, "text": text})["id"])
    say(email_id)
    if not wait:
        return
    console = make_console(sys.stderr)
    for event in follow(gateway, email_id):
        console.print(show_event(event), soft_wrap=True)
    states = {delivery["state"] for delivery in gateway.get(f"/emails/{email_id}")["deliveries"]}
    if State.KEPT in states:
        raise CommandFailed(
            "the mail was kept by the gateway and not sent: its TRANSPORT is inbox",
            "to send mail, set TRANSPORT=smtp and SMTP_URL (or the secret smtp-url) and restart; then send it again",
        )
    if states != {State.DELIVERED}:
        raise typer.Exit(FAILED)


def follow(gateway: Gateway, email_id: str) -> Iterator[dict[str, Any]]:
    """Yield the mail's events as they come, until every delivery is final.

    Raises CommandFailed when that takes longer than a minute.
    """
    shown: set[str] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        # First the state, then the events: what made it final is then among them.
        deliveries = gateway.get(f"/emails/{email_id}")["deliveries"]
        for event in gateway.get(f"/emails/{email_id}/events")["data"]:
            if event["id"] not in shown:
                shown.add(event["id"])
                yield event
        if all(delivery["state"] in FINAL for delivery in deliveries):
            return
        if time.monotonic() > deadline:
            raise CommandFailed(
                f"the mail was accepted and is not finished after {PATIENCE_SECONDS} s",
                "`email-gateway status` shows the queue; does a worker run?",
            )
        time.sleep(LOOK_EVERY_SECONDS)


def _choose_key(api_key: str | None, url: str | None, home: Path | None) -> str:
    if api_key == "-":
        return sys.stdin.readline().strip()
    if api_key:
        return api_key
    if url is None or home is not None:  # the local key is not for other gateways
        credentials = open_home(home).find_credentials()
        if credentials and credentials.api_key:
            return credentials.api_key
    raise CommandFailed(
        "there is no API key to send with", "pass one with --api-key; `email-gateway tenants keys create` makes one"
    )


def show_event(event: dict[str, Any]) -> Text:
    """Return one line of the timeline: when, what, to whom, and what the server said."""
    at = datetime.fromisoformat(event["created_at"]).astimezone()
    answer = " ".join(str(part) for part in (event["code"], event["reply"] or event["enhanced"]) if part is not None)
    line = Text(f"{at:%H:%M:%S}.{at.microsecond // 1000:03}  ")
    line.append(f"{event['type']:<10}", STATE_STYLES.get(event["type"], ""))
    told = f"  {event['recipient'] or ''}  {answer or event['reason'] or ''}".rstrip()
    # What a server answered must not steer the terminal.
    line.append("".join(character if character.isprintable() else " " for character in told))
    return line
