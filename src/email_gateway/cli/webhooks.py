"""`email-gateway webhooks`: where events are sent, how the endpoints do, what was sent; send again, test."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from email_gateway.cli.choosing import parse_age
from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say, show, show_duration
from email_gateway.errors import NotFound
from email_gateway.mail.webhooks import TEST_EVENT, WORDS
from email_gateway.store import webhook_deliveries as store
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database
from email_gateway.store.webhook_deliveries import StoredDelivery
from email_gateway.store.webhooks import MOST_COUNTED, Standing, list_standings

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at webhooks and what was sent to them; send again, test.",
)

TEST_PATIENCE = timedelta(seconds=15)
TEST_POLL_SECONDS = 0.1
EXAMPLE = "01a20a51-affa-7334-9f2a-3fb5739d3178"

Id = Annotated[UUID, typer.Argument(metavar="WEBHOOK", help="A webhook's id, as `webhooks list` shows it.")]


@app.command("list", epilog=examples("email-gateway webhooks list"))
def list_all(home: HomeDir = None, as_json: AsJson = False) -> None:
    """List every tenant's webhooks, those that fail first, with what waits for each."""

    async def read() -> list[Standing]:
        async with open_database(home) as db:
            return await list_standings(db)

    found = asyncio.run(read())
    if as_json:
        print_json({"webhooks": [_standing(one) for one in found]})
        return
    if not found:
        say("no tenant has a webhook")
    for one in found:
        _print_standing(one)


@app.command("show", epilog=examples(f"email-gateway webhooks show {EXAMPLE}"))
def show_one(
    webhook_id: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many deliveries to show.")] = 20,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one webhook, and what was last sent to it or waits for it. What it answered stays sealed."""

    async def read() -> tuple[Standing, list[StoredDelivery]]:
        async with open_database(home) as db:
            standing = await _get(db, webhook_id)
            return standing, await store.list_deliveries(db, standing.tenant_id, webhook_id, limit=limit)

    standing, deliveries = asyncio.run(read())
    if as_json:
        print_json(_standing(standing) | {"deliveries": [_delivery(one) for one in deliveries]})
        return
    _print_standing(standing)
    for one in deliveries:
        say("")
        _print_delivery(one)


@app.command(
    epilog=examples(
        f"email-gateway webhooks replay {EXAMPLE} --failed",
        f"email-gateway webhooks replay {EXAMPLE} --newer-than 2h",
        f"email-gateway webhooks replay {EXAMPLE} --delivery 01a20a51-bffa-7334-9f2a-3fb5739d3178",
    )
)
def replay(
    webhook_id: Id,
    delivery: Annotated[UUID | None, typer.Option("--delivery", metavar="ID", help="This delivery alone.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Those that were given up.")] = False,
    newer_than: Annotated[
        str | None, typer.Option("--newer-than", metavar="AGE", help="Of events since then: 30m, 12h, 7d.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Of events before then: 30m, 12h, 7d.")
    ] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Send again what was sent before, under its old ids: receivers that keep those take nothing twice.

    Options add up: with `--failed --newer-than 1d` it is what was given up of the last day.
    """
    if not (delivery or failed or newer_than or older_than):
        raise typer.BadParameter("say which: --delivery, --failed, --newer-than or --older-than")
    now = datetime.now(UTC)
    since, until = (
        now - parse_age(text, option) if text else None
        for text, option in ((newer_than, "--newer-than"), (older_than, "--older-than"))
    )

    async def act() -> int:
        async with open_database(home) as db:
            standing = await _get(db, webhook_id)
            async with db.transaction() as transaction:
                number = await store.replay(
                    transaction,
                    standing.tenant_id,
                    webhook_id,
                    delivery_id=delivery,
                    since=since,
                    until=until,
                    failed_only=failed,
                )
                await add_audit(
                    transaction,
                    actor=name_of_user(),
                    action="webhook.replayed",
                    tenant_id=standing.tenant_id,
                    subject=str(webhook_id),
                )
            return number

    number = asyncio.run(act())
    if as_json:
        print_json({"webhook_id": webhook_id, "replayed": number})
    else:
        say(f"{number} deliveries are sent again")


@app.command("test", epilog=examples(f"email-gateway webhooks test {EXAMPLE}"))
def send_test(webhook_id: Id, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Have a worker send a `webhook.test` event, wait for what comes of it, and say that."""
    sent = asyncio.run(_test(home, webhook_id))
    if as_json:
        print_json(_delivery(sent))
    else:
        _print_delivery(sent)
    if sent.state != "delivered":
        raise CommandFailed(f"the test did not arrive: {sent.result}", "mend the endpoint, then test again")


async def _test(home: HomeDir, webhook_id: UUID) -> StoredDelivery:
    async with open_database(home) as db:
        standing = await _get(db, webhook_id)
        if standing.status != "enabled":
            raise CommandFailed(
                "the webhook is disabled: nothing is sent to it", "enable it with PATCH /v1/webhooks/ID"
            )
        delivery_id = await store.add_test(db, webhook_id)
        await add_audit(
            db, actor=name_of_user(), action="webhook.tested", tenant_id=standing.tenant_id, subject=str(webhook_id)
        )
        try:
            async with asyncio.timeout(TEST_PATIENCE.total_seconds()):
                while True:
                    (one,) = await store.list_deliveries(
                        db, standing.tenant_id, webhook_id, limit=1, delivery_id=delivery_id
                    )
                    if one.attempts:
                        return one
                    await asyncio.sleep(TEST_POLL_SECONDS)
        except TimeoutError:
            raise CommandFailed(
                "no worker sent the test yet",
                "see that a worker runs, and with `webhooks show` whether the endpoint fails and waits",
            ) from None


async def _get(db: Database, webhook_id: UUID) -> Standing:
    found = await list_standings(db, webhook_id)
    if not found:
        raise NotFound("no such webhook: see `email-gateway webhooks list`")
    return found[0]


def _standing(one: Standing) -> dict[str, object]:
    return {name: getattr(one, name) for name in Standing.__slots__}


def _delivery(one: StoredDelivery) -> dict[str, object]:
    hidden = ("sealed_answer", "kind")
    shown: dict[str, object] = {name: getattr(one, name) for name in StoredDelivery.__slots__ if name not in hidden}
    return shown | {"type": WORDS.get(one.kind, TEST_EVENT)}


def _print_standing(one: Standing) -> None:
    more = "+" if one.waiting == MOST_COUNTED else ""
    by = f" by {one.disabled_by}" if one.disabled_by else ""
    say(f"{one.webhook_id}\n  {one.host}, of tenant {one.tenant}, {one.status}{by}, {one.waiting}{more} wait")
    say(f"  {show(one.events)}")
    if one.failing_since is not None:
        say(f"  fails for {show_duration(datetime.now(UTC) - one.failing_since)} ({one.last_result or 'not sent'})")


def _print_delivery(one: StoredDelivery) -> None:
    about = f", mail {one.message_id}" if one.message_id.int else ""
    say(f"{one.delivery_id}\n  {WORDS.get(one.kind, TEST_EVENT)}{about}")
    came = f", {one.result or '-'} {one.status or ''}".rstrip() if one.attempts else ""
    took = f" in {one.milliseconds} ms" if one.milliseconds is not None else ""
    say(f"  {one.state} after {one.attempts} attempts{came}{took}, {show(one.attempted_at or one.happened_at)}")
