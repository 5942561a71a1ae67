"""`email-gateway dlq`: dead letters, looked at, retried or discarded; one by its id, or many by a filter."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from email_gateway.api.dead_letters import dead_letter_detail, dead_letter_list
from email_gateway.cli.choosing import check_reason, find_tenant_id, parse_age
from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import make_console, print_json, print_wrapped, say, show
from email_gateway.cli.taking import taking
from email_gateway.cli.trace import print_events
from email_gateway.mail.advice import dead_advice
from email_gateway.store import dead_letters as store
from email_gateway.store.database import Database, Queries
from email_gateway.store.dead_letters import DeadFilter, DeadLetter, DeadStats, DeliveryId
from email_gateway.store.messages import StoredEvent, list_events

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at dead letters, and retry or discard them.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="A dead letter's id, as `dlq list` shows it.")]
MaybeId = Annotated[
    str | None, typer.Argument(metavar="ID", help="A dead letter's id; without one, those that match the filter.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]
Why = Annotated[
    str | None,
    typer.Option("--why", metavar="TEXT", help="Why, for the audit; nothing personal.", callback=check_reason),
]


@dataclass(frozen=True, slots=True)
class Filter:
    """The options that choose dead letters: every one that is given must match."""

    reason: Annotated[
        str | None, typer.Option("--reason", metavar="WORD", help="Dead for this reason, such as in_doubt.")
    ] = None
    domain: Annotated[str | None, typer.Option("--domain", metavar="DOMAIN", help="To this domain.")] = None
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Of this tenant, by name or id.")] = (
        None
    )
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Dead for longer than this: 30m, 12h, 7d.")
    ] = None

    async def read(self, db: Queries) -> DeadFilter:
        """Return what the store looks for; raises CommandFailed for an unknown tenant."""
        return DeadFilter(
            tenant_id=await find_tenant_id(db, self.tenant) if self.tenant else None,
            reason=self.reason,
            domain=self.domain.lower() if self.domain else None,
            dead_before=datetime.now(UTC) - parse_age(self.older_than, "--older-than") if self.older_than else None,
        )


@dataclass(frozen=True, slots=True)
class Wanted(Filter):
    """The options of an act on many: a filter, or all that are dead."""

    everything: Annotated[bool, typer.Option("--all", help="Every dead letter; instead of a filter.")] = False


@app.command(
    "list",
    epilog=examples("email-gateway dlq list", "email-gateway dlq list --reason in_doubt --older-than 1h --limit 50"),
)
@taking(Filter)
def list_dead(
    chosen: Filter,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on behind this one.")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by reason, with what to do about each, and list a page of them, the newest mails first."""

    async def read() -> tuple[list[DeadLetter], bool, DeadStats]:
        async with open_database(home) as db:
            wanted = await chosen.read(db)
            cursor = DeliveryId.parse(after) if after else None
            letters, has_more = await store.list_dead_letters(db, wanted, limit=limit, after=cursor)
            return letters, has_more, await store.count_dead_letters(db, wanted)

    letters, has_more, stats = asyncio.run(read())
    if as_json:
        print_json({"total": stats.total, **msgspec.to_builtins(dead_letter_list(letters, has_more))})
    else:
        _print_list(letters, has_more, stats)


@app.command("show", epilog=examples("email-gateway dlq show 01a20a51-affa-7334-9f2a-3fb5739d3178-0"))
def show_dead(delivery_id: Id, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show one dead letter: why it is dead, what to do, and its history. Servers' words stay sealed."""

    async def read() -> tuple[DeadLetter, list[StoredEvent]]:
        async with open_database(home) as db:
            letter = await store.get_dead_letter(db, DeliveryId.parse(delivery_id))
            return letter, await list_events(db, letter.tenant_id, letter.message_id)

    letter, events = asyncio.run(read())
    if as_json:
        print_json(msgspec.to_builtins(dead_letter_detail(letter, events)))
        return
    say(f"{letter.delivery_id}\nto {letter.domain}, of tenant {letter.tenant}, after {letter.attempts} attempts")
    say(f"accepted {show(letter.created_at)}, dead since {show(letter.dead_at)}: {letter.reason or '-'}")
    print_wrapped(dead_advice(letter.reason), indent=2)
    print_events(event for event in events if event.recipient in (None, letter.recipient))
    say(f"whole story: email-gateway trace {letter.message_id}")


@app.command(
    epilog=examples(
        "email-gateway dlq retry 01a20a51-affa-7334-9f2a-3fb5739d3178-0",
        "email-gateway dlq retry --reason worker_lost --domain example.net",
        "email-gateway dlq retry --all --yes",
    )
)
@taking(Wanted)
def retry(
    wanted: Wanted,
    delivery_id: MaybeId = None,
    yes: Yes = False,
    why: Why = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Queue dead letters for an attempt now, with a day to live at least.

    By a filter it shows how many first, and asks. It goes in pages of 1,000: interrupted, it has done what
    it counted, and the same command goes on with the rest.
    """
    _run(RETRY, Asked(wanted, delivery_id, yes, why, home, as_json))


@app.command(
    epilog=examples(
        "email-gateway dlq discard 01a20a51-affa-7334-9f2a-3fb5739d3178-0",
        'email-gateway dlq discard --domain example.net --older-than 7d --why "ticket 4711"',
    )
)
@taking(Wanted)
def discard(
    wanted: Wanted,
    delivery_id: MaybeId = None,
    yes: Yes = False,
    why: Why = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up for good: they end as cancelled, and stay countable.

    By a filter it shows how many first, and asks; in pages of 1,000, as `retry` does.
    """
    _run(DISCARD, Asked(wanted, delivery_id, yes, why, home, as_json))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: which dead letters, and how."""

    wanted: Wanted
    delivery_id: str | None
    yes: bool
    why: str | None
    home: HomeDir
    as_json: bool


@dataclass(frozen=True, slots=True)
class Act:
    """One of the two acts, on one and on many."""

    verb: str
    done: str
    one: Callable[..., Awaitable[None]]
    many: Callable[..., Awaitable[int]]


RETRY = Act("retry", "queued again", store.retry_dead_letter, store.retry_dead_letters)
DISCARD = Act("discard", "discarded", store.discard_dead_letter, store.discard_dead_letters)


def _run(act: Act, asked: Asked) -> None:
    is_filtered = asked.wanted != Wanted()
    if (asked.delivery_id is None) != is_filtered or (
        asked.wanted.everything and asked.wanted != Wanted(everything=True)
    ):
        raise typer.BadParameter("give one id, or a filter, or --all")
    changed = asyncio.run(_change(act, asked))
    if asked.as_json:
        print_json({"changed": changed})
    else:
        say(f"{act.done}: {changed}")


async def _change(act: Act, asked: Asked) -> int:
    async with open_database(asked.home) as db:
        if asked.delivery_id is not None:
            await act.one(db, DeliveryId.parse(asked.delivery_id), actor=name_of_user(), reason=asked.why)
            return 1
        chosen = await asked.wanted.read(db)
        stats = await store.count_dead_letters(db, chosen)
        if not stats.total or not _confirm(act, asked, stats):
            return 0
        # What dies again meanwhile is not taken a second time.
        chosen = replace(chosen, dead_before=min(chosen.dead_before or stats.at, stats.at))
        return await _change_all(db, act, asked, chosen, stats.total)


def _confirm(act: Act, asked: Asked, stats: DeadStats) -> bool:
    if asked.yes:
        return True
    if asked.as_json or not sys.stdin.isatty():
        raise CommandFailed(f"{stats.total} dead letters match, and nobody is here to ask", "add --yes to go on")
    _print_reasons(stats)
    return typer.confirm(f"{act.verb} {stats.total} dead letters?", err=True)


async def _change_all(db: Database, act: Act, asked: Asked, chosen: DeadFilter, total: int) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    is_shown = not asked.as_json and sys.stderr.isatty()
    changed = 0
    with Progress(*columns, console=make_console(sys.stderr), disable=not is_shown) as progress:
        task = progress.add_task(act.verb, total=total)
        while page := await act.many(db, chosen, actor=name_of_user(), reason=asked.why):
            changed += page
            progress.update(task, advance=page)
    return changed


def _print_list(letters: list[DeadLetter], has_more: bool, stats: DeadStats) -> None:
    say(f"{stats.total} dead letters")
    _print_reasons(stats)
    if not letters:
        return
    say("")
    # The id is what one copies: it stands alone on its line, unbroken.
    for letter in letters:
        code = f" {letter.code}" if letter.code else ""
        say(
            f"{letter.delivery_id}\n  {letter.reason or '-'}{code}, to {letter.domain}, {letter.tenant}, {show(letter.dead_at)}"
        )
    if has_more:
        say(f"more: --after {letters[-1].delivery_id}")


def _print_reasons(stats: DeadStats) -> None:
    for reason, count in stats.by_reason:
        say(f"\n  {reason or '-'}: {count}")
        print_wrapped(dead_advice(reason), indent=6)
