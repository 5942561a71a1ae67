"""`email-gateway queue`: what waits and what is held; hold, release, try now."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from email_gateway.api.queue import flushed_view, queue_view
from email_gateway.cli.choosing import Reason, find_tenant_id
from email_gateway.cli.connecting import name_of_user, open_database
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, print_wrapped, say, show_duration
from email_gateway.cli.taking import taking
from email_gateway.errors import InvalidRequest, NotFound
from email_gateway.mail.advice import lane_name
from email_gateway.settings import TRANSPORTS
from email_gateway.store import holds
from email_gateway.store.database import Queries
from email_gateway.store.holds import Flushed, Target
from email_gateway.store.pace import Temper
from email_gateway.store.waiting import (
    MOST_LOOKED_AT,
    Concern,
    Group,
    Waiting,
    advice_for,
    list_concerns,
    read_waiting,
    why_held,
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
)

DESTINATIONS_SHOWN = 20
AGE_COLUMNS = ("<5min", "<20min", "<1h", "<4h", "<1d", "older")


@dataclass(frozen=True, slots=True)
class Named:
    """The options that name mail: all of it, or a route, a destination, a tenant's sender."""

    everything: Annotated[bool, typer.Option("--all", help="All mail, whatever way it takes.")] = False
    route: Annotated[
        str | None,
        typer.Option(
            "--route", metavar="NAME", help=f"A route ({', '.join(TRANSPORTS)}), or what else is named on it."
        ),
    ] = None
    to: Annotated[str | None, typer.Option("--to", metavar="DOMAIN", help="Mail to this domain.")] = None
    sender: Annotated[
        str | None, typer.Option("--from", metavar="DOMAIN", help="A tenant's mail from this domain; with --tenant.")
    ] = None
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="The sender's tenant, by name or id.")
    ] = None

    async def read(self, db: Queries) -> Target:
        """Return what is named; raises BadParameter for nothing, or for what is none."""
        tenant_id = await find_tenant_id(db, self.tenant) if self.tenant is not None else None
        try:
            return Target.choose(
                TRANSPORTS,
                everything=self.everything,
                route=self.route,
                to=self.to,
                sender=self.sender,
                tenant_id=tenant_id,
            )
        except InvalidRequest as error:
            raise typer.BadParameter(f"{error} (--all, --route, --to, or --from with --tenant)") from None


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "email-gateway queue",
        'email-gateway queue hold --to example.net --reason "their server bounces everything"',
        "email-gateway queue release --to example.net",
        "email-gateway queue flush",
    ),
)
def queue(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """See what waits and what is held; hold, release, try now.

    Without a command it shows what waits, by destination and age, what is held and why, and what waits
    for you, each with what to do. Each column counts the deliveries of one age, as Postfix's qshape does:
    many in the younger ones is a busy hour, many in the older ones a destination that does not take its mail.
    """
    if context.invoked_subcommand is not None:
        return
    waiting, lanes, concerns = asyncio.run(_read(home))
    if as_json:
        answer = msgspec.to_builtins(queue_view(waiting, lanes))
        print_json(answer | {"waits_for_you": msgspec.to_builtins(concerns)})
    else:
        _print(waiting, lanes, concerns)


@app.command(
    epilog=examples(
        'email-gateway queue hold --route smtp --reason "the provider asked for it"',
        'email-gateway queue hold --to example.net --reason "ticket 4711"',
        'email-gateway queue hold --from shop.example --tenant billing --reason "a wrong campaign"',
    )
)
@taking(Named)
def hold(named: Named, reason: Reason, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Hold mail by hand: a route, a destination, or a sender of a tenant.

    Every worker follows within a second, also one that starts later; what is under way still leaves.
    Held mail keeps its place and costs no attempt; it ends only when its time runs out. Only `release` ends the hold.
    """

    async def act() -> Target:
        async with open_database(home) as db:
            target = await named.read(db)
            await holds.hold(db, target, actor=name_of_user(), reason=reason)
            return target

    _say_held(asyncio.run(act()), as_json, is_held=True)


@app.command(
    epilog=examples("email-gateway queue release --route smtp", "email-gateway queue release --to example.net")
)
@taking(Named)
def release(
    named: Named,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit; nothing personal.")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """End a hold by hand; name what was held. Mail flows again within a second.

    What servers had said of it before counts again: it is tried at once, with one mail.
    """

    async def act() -> Target:
        async with open_database(home) as db:
            target = await named.read(db)
            try:
                await holds.release(db, target, actor=name_of_user(), reason=reason)
            except NotFound:
                raise await _nothing_to_release(db, target) from None
            return target

    _say_held(asyncio.run(act()), as_json, is_held=False)


@app.command(epilog=examples("email-gateway queue flush", "email-gateway queue flush --to example.net"))
@taking(Named)
def flush(named: Named, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Try now: what servers made wait is probed at once, and what would be tried again later is due.

    Use it when the cause is mended. Without an option it is about all mail. What an operator holds stays
    held. A mail that was deferred spends an attempt on it.
    """

    async def act() -> Flushed:
        chosen = Named(everything=True) if named == Named() else named
        async with open_database(home) as db:
            target = await chosen.read(db)
            done = await holds.flush(db, target, actor=name_of_user())
            lanes, deliveries = done.lanes, done.deliveries
            while done.has_more:
                done = await holds.flush(db, target, actor=name_of_user())
                deliveries += done.deliveries
            return Flushed(lanes, deliveries, has_more=False)

    done = asyncio.run(act())
    if as_json:
        print_json(msgspec.to_builtins(flushed_view(done)))
        return
    for lane in done.lanes:
        say(f"probed now: {lane_name(*lane)}")
    say(f"due now: {done.deliveries} deliveries that would have been tried later")


async def _read(home: HomeDir) -> tuple[Waiting, list[Temper], list[Concern]]:
    async with open_database(home) as db:
        lanes = await holds.list_lanes(db)
        return await read_waiting(db), lanes, await list_concerns(db, lanes)


async def _nothing_to_release(db: Queries, target: Target) -> CommandFailed:
    lanes = await holds.list_lanes(db)
    if any(lane.lane == target.lane and lane.held_by == "replies" for lane in lanes):
        return CommandFailed(
            f"servers made {target.name} wait, not an operator", "mend the cause, then try with `queue flush`"
        )
    held = [lane_name(lane.route, lane.lane) for lane in lanes if lane.is_held_by_hand]
    return CommandFailed(f"no operator holds {target.name}", f"held by hand: {'; '.join(held) or 'nothing'}")


def _say_held(target: Target, as_json: bool, *, is_held: bool) -> None:
    if as_json:
        print_json({"name": target.name, "is_held": is_held})
    else:
        say(f"{'held' if is_held else 'released'}: {target.name}")


def _print(waiting: Waiting, lanes: list[Temper], concerns: list[Concern]) -> None:
    _print_counts(waiting)
    for title, chosen in (
        ("Held", [lane for lane in lanes if lane.is_held]),
        ("Slowed", [lane for lane in lanes if not lane.is_held]),
    ):
        if chosen:
            say(f"\n{title}")
        for lane in chosen:
            _print_lane(lane)
    others = [one for one in concerns if one.kind != "held"]
    if others:
        say("\nWaits for you")
    for one in others:
        count = "" if one.count is None else f"{one.count} "
        print_wrapped(f"{count}{one.what} ({one.why})", indent=2)
        print_wrapped(one.to_do, indent=6)


def _print_counts(waiting: Waiting) -> None:
    whole = waiting.queued
    least = "at least " if waiting.is_partial else ""
    say(f"{least}{whole.total} wait, {whole.total - whole.later} of them due; {waiting.sending} are being sent")
    if waiting.is_partial:
        say(f"(counted are the {MOST_LOOKED_AT} whose time runs out first)")
    if waiting.suspects or waiting.doubtful:
        say(f"{waiting.suspects} have outlived a worker, {waiting.doubtful} were sent once and had no answer")
    if whole.total == 0:
        return
    say("")
    lanes = [(name, group) for name, group in waiting.by_lane if name]
    shown = waiting.by_destination[:DESTINATIONS_SHOWN]
    rows = [("all", whole), *((_lane(name), group) for name, group in lanes), *shown]
    print_table("By age", ["destination", "all", *AGE_COLUMNS], [_row(name, group) for name, group in rows])
    if len(waiting.by_destination) > DESTINATIONS_SHOWN:
        say(f"The {DESTINATIONS_SHOWN} largest of {len(waiting.by_destination)} destinations or more.")


def _lane(name: str) -> str:
    return "(lost a worker)" if name == "suspect" else f"(lane {name})"


def _row(name: str, group: Group) -> list[object]:
    return [name, group.total, *group.by_age]


def _print_lane(lane: Temper) -> None:
    now = datetime.now(UTC)
    print_wrapped(f"{lane_name(lane.route, lane.lane)}, for {show_duration(now - lane.since)}", indent=2)
    print_wrapped(why_held(lane), indent=6)
    if lane.probe_at is not None:
        say(f"      next try in {show_duration(max(timedelta(0), lane.probe_at - now))}, {lane.probes} failed so far")
    if lane.rate is not None and not lane.is_held:
        say(f"      {lane.rate:.3g} a second when it was last refused")
    print_wrapped(advice_for(lane), indent=6)
