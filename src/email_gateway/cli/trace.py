"""`email-gateway trace`: one mail's whole story, by its id."""

import asyncio
from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from email_gateway.api.traces import trace_view
from email_gateway.cli.connecting import open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import STATE_STYLES, make_console, print_json, print_wrapped, say, show
from email_gateway.errors import NotFound
from email_gateway.mail.deliveries import State
from email_gateway.store.messages import StoredEvent
from email_gateway.store.traces import Trace, TracedDelivery, trace_message

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples("email-gateway trace 01a20a51-affa-7334-9f2a-3fb5739d3178"))
def trace(
    message_id: Annotated[
        UUID, typer.Argument(metavar="MESSAGE_ID", help="The id that the API answered; in the log it is `message_id`.")
    ],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell one mail's whole story, by its id.

    Where each delivery stands, what it waits for, and all that happened. Deliveries are named by their position in the envelope and their domain. Addresses and servers' words
    are sealed: the dashboard shows them, to whoever gives a reason.
    """

    async def read() -> Trace:
        async with open_database(home) as db:
            return await trace_message(db, message_id)

    try:
        found = asyncio.run(read())
    except NotFound:
        raise CommandFailed("there is no mail of this id", "ids stand in the API's answers and in the log") from None
    if as_json:
        print_json(msgspec.to_builtins(trace_view(found)))
    else:
        _print(found)


def _print(found: Trace) -> None:
    say(f"{found.message_id}")
    files = f", {found.attachment_count} attachments" if found.attachment_count else ""
    print_wrapped(f"from {found.sender_domain}, tenant {found.tenant}, {found.size} bytes{files}", indent=0)
    say(f"accepted {show(found.created_at)}, worth sending until {show(found.expires_at)}")
    say(f"when nobody knows whether it arrived: {found.on_doubt}")
    if found.traceparent is not None:
        say(f"traceparent {found.traceparent}")
    for delivery, waits_for in zip(found.deliveries, found.waits_for, strict=True):
        _print_delivery(delivery, waits_for)
    say("")
    print_events(found.events)


def _print_delivery(delivery: TracedDelivery, waits_for: str | None) -> None:
    said = " ".join(str(part) for part in (delivery.reason, delivery.code, delivery.enhanced) if part is not None)
    say(f"\n{delivery.recipient} to {delivery.domain}: {delivery.state}{f', {said}' if said else ''}")
    facts = [f"{delivery.attempts} attempts"]
    if delivery.doubts:
        facts.append(f"{delivery.doubts} times without an answer to the whole mail")
    if delivery.crashes:
        facts.append(f"{delivery.crashes} workers died while composing it")
    if delivery.claim_expires_at is not None:
        facts.append(f"a worker has it ({delivery.phase}) until {show(delivery.claim_expires_at)}")
    print_wrapped(", ".join(facts), indent=2)
    if waits_for is not None:
        label = "waits for" if delivery.state is State.QUEUED else "what to do"
        print_wrapped(f"{label}: {waits_for}", indent=2)


def print_events(events: Iterable[StoredEvent]) -> None:
    """Print facts, a line each: when, what, of which delivery, at which attempt, and why."""
    console = make_console()
    for event in events:
        console.print(_event(event), soft_wrap=True)


def _event(event: StoredEvent) -> Text:
    line = Text(f"{show(event.at)}  ")
    line.append(f"{event.kind:<10}", STATE_STYLES.get(event.kind, ""))
    said = (event.reason, f"at {event.stage}" if event.stage else None, event.code, event.enhanced)
    who = "" if event.recipient is None else f"{event.recipient}"
    attempt = "" if event.attempt is None else f"try {event.attempt}"
    line.append(f"{who:<3}{attempt:<7}" + " ".join(str(part) for part in said if part is not None))
    return line
