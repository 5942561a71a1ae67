"""What waits and what is held, under /admin/queue: look, hold, release, try now."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.mail.advice import lane_name
from email_gateway.settings import TRANSPORTS
from email_gateway.store.holds import Flushed, Target, flush, hold, list_lanes, release
from email_gateway.store.pace import Temper
from email_gateway.store.waiting import AGES, MOST_LOOKED_AT, Group, Waiting, advice_for, read_waiting

Why = Annotated[str, Meta(description="Kept in the audit: nothing personal.", min_length=3, max_length=200)]


class LaneView(msgspec.Struct, frozen=True):
    """A route, or a destination or a sender within it, that is held or slowed: why, since when, what to do.

    `held_by` is `operator` (only a release ends it) or `replies` (a probe that goes well ends it).
    `reason`, `stage`, `code` and `enhanced` are what servers said, `actor` and `note` are the operator's.
    """

    name: str
    route: Annotated[str, Meta(description="`*` is every route.")]
    lane: Annotated[str, Meta(description="Empty for the route itself, `to:DOMAIN`, or `from:TENANT_ID/DOMAIN`.")]
    state: str
    held_by: str | None
    since: datetime
    reason: str | None
    stage: str | None
    code: int | None
    enhanced: str | None
    actor: str | None
    note: str | None
    next_probe_at: datetime | None
    probes: int
    rate: Annotated[float | None, Meta(description="Recipients a second, as last refused.")]
    to_do: str


class GroupView(msgspec.Struct, frozen=True):
    """Queued deliveries of one lane or destination; `later` of them are tried again later, the others are due."""

    name: str
    total: int
    by_age: Annotated[dict[str, int], Meta(description="How many are younger than each age; the rest is `older`.")]
    later: int
    oldest_at: datetime | None


class QueueView(msgspec.Struct, frozen=True):
    """What waits, counted by lane, destination and age, and the lanes that are not open.

    With `is_partial` more wait than `counted_at_most`, and every count is a lower bound. `suspects`
    outlived a worker; `doubtful` were sent once and the answer was lost.
    """

    queued: GroupView
    sending: int
    suspects: int
    doubtful: int
    is_partial: bool
    counted_at_most: int
    by_lane: list[GroupView]
    by_destination: list[GroupView]
    lanes: list[LaneView]


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """What an act is about: `everything`, or a route, a destination, a sender of a tenant (by domain)."""

    everything: bool = False
    route: Annotated[str, Meta(max_length=50)] | None = None
    to: Annotated[str, Meta(max_length=255)] | None = None
    sender: Annotated[str, Meta(max_length=255)] | None = None
    tenant_id: UUID | None = None


class QueueAct(Named, frozen=True, kw_only=True):
    """What to release or to try now, and why if you like."""

    reason: Why | None = None


class HoldAct(Named, frozen=True, kw_only=True):
    """What to hold, and why."""

    reason: Why


class Held(msgspec.Struct, frozen=True):
    """What is held now, or was released."""

    name: str
    is_held: bool


class FlushedView(msgspec.Struct, frozen=True):
    """The lanes that are probed now and how many deliveries were made due; repeat it while `has_more`."""

    probed: list[str]
    deliveries: int
    has_more: bool


_ACT = BodyDecoder[QueueAct](QueueAct)
_HOLD = BodyDecoder[HoldAct](HoldAct)
_ENCODE = msgspec.json.Encoder().encode


async def get_queue(context: ApiContext, _call: Call) -> Reply:
    """Return what waits, by lane, destination and age, and what is held or slowed."""
    return Reply(200, _ENCODE(queue_view(await read_waiting(context.db), await list_lanes(context.db))))


async def hold_queue(context: ApiContext, call: Call) -> Reply:
    """Hold mail by hand until it is released; workers follow within a second, and held mail costs no attempt."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _HOLD.decode(body)
    target = _target(wanted)
    await hold(context.db, target, actor=call.actor, reason=wanted.reason)
    return Reply(200, _ENCODE(Held(target.name, is_held=True)))


async def release_queue(context: ApiContext, call: Call) -> Reply:
    """End a hold by hand; 404 when no operator holds just this."""
    wanted = await _read_act(call)
    target = _target(wanted)
    await release(context.db, target, actor=call.actor, reason=wanted.reason)
    return Reply(200, _ENCODE(Held(target.name, is_held=False)))


async def flush_queue(context: ApiContext, call: Call) -> Reply:
    """Try now: probe what replies hold, and make due up to 1,000 deliveries that would be tried later."""
    wanted = await _read_act(call)
    done = await flush(context.db, _target(wanted), actor=call.actor, reason=wanted.reason)
    return Reply(200, _ENCODE(flushed_view(done)))


def queue_view(waiting: Waiting, lanes: list[Temper]) -> QueueView:
    """Return the queue as it is answered."""
    return QueueView(
        queued=_group_view("", waiting.queued),
        sending=waiting.sending,
        suspects=waiting.suspects,
        doubtful=waiting.doubtful,
        is_partial=waiting.is_partial,
        counted_at_most=MOST_LOOKED_AT,
        by_lane=[_group_view(name, group) for name, group in waiting.by_lane],
        by_destination=[_group_view(name, group) for name, group in waiting.by_destination],
        lanes=[lane_view(lane) for lane in lanes],
    )


def lane_view(lane: Temper) -> LaneView:
    """Return a lane as it is answered."""
    return LaneView(
        name=lane_name(lane.route, lane.lane),
        route=lane.route,
        lane=lane.lane,
        state=lane.state,
        held_by=lane.held_by,
        since=lane.since,
        reason=lane.reason,
        stage=lane.stage,
        code=lane.code,
        enhanced=lane.enhanced,
        actor=lane.actor,
        note=lane.note,
        next_probe_at=lane.probe_at,
        probes=lane.probes,
        rate=lane.rate,
        to_do=advice_for(lane),
    )


def flushed_view(done: Flushed) -> FlushedView:
    """Return what a flush did as it is answered."""
    return FlushedView([lane_name(*lane) for lane in done.lanes], done.deliveries, done.has_more)


def _group_view(name: str, group: Group) -> GroupView:
    ages = dict(zip((*AGES, "older"), group.by_age, strict=True))
    return GroupView(name, group.total, ages, group.later, group.oldest_at)


async def _read_act(call: Call) -> QueueAct:
    body = await call.read_small_body()
    check_json(call.headers, body)
    return _ACT.decode(body)


def _target(act: Named) -> Target:
    return Target.choose(
        TRANSPORTS, everything=act.everything, route=act.route, to=act.to, sender=act.sender, tenant_id=act.tenant_id
    )
