"""What conversations teach about a route, and what the fleet knows of it: learned, written, read, probed."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from email_gateway.errors import DatabaseUnavailable
from email_gateway.mail.advice import lane_advice
from email_gateway.mail.deliveries import COMMON_LANE, Outcome, Scope, Verdict, destination_lane, sender_lane
from email_gateway.observe import HELD_LANES, get_logger
from email_gateway.pace.lanes import STALL_SECONDS, Lane
from email_gateway.pace.rates import LEAST_PAUSE_SECONDS, RECOVERY, UNANSWERED, probe_wait, refused_rate
from email_gateway.pace.route import Pace
from email_gateway.pace.turns import Turn
from email_gateway.store import pace as store
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.store.pace import Temper, Why

log = get_logger(__name__)

LOOK_EVERY = timedelta(milliseconds=250)
FRESH_SECONDS = 2.0  # claims go by what was read within this time
PROBE_LEASE = timedelta(seconds=15)  # a probe that takes longer does not keep others from theirs
COUNT_WORKERS_EVERY_SECONDS = 1.0
FORGET_LANE_AFTER_SECONDS = 60.0
FORGET_RATE_AFTER = timedelta(hours=1)
LIFTED = 4.0  # so many times the refused rate, and it was no limit
MOST_FAILURES = 3  # in a row, and the lane is held
RATE_LIMITED = "rate_limited"
TOO_MANY_CONNECTIONS = "too_many_connections"
# This process was slow, not the server.
OURSELVES = frozenset({"lease_ended", "no_free_connection"})
TAKEN = frozenset({Verdict.DELIVERED, Verdict.KEPT})

Change = Callable[[], Awaitable[None]]
Prepare = Callable[[str], Awaitable[None]]


class Keeper:
    """Keeps one `Pace` in step with what servers say and with what other processes have heard.

    `prepare` is called with the reason before a held route is probed: a refused login is tried
    again with the secret read anew.
    """

    def __init__(self, db: Database, pace: Pace, prepare: Prepare | None = None) -> None:
        self._db = db
        self._pace = pace
        self._prepare = prepare
        self._changes: list[Change] = []
        self._changed_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._counted_at = -math.inf
        self._looked_at = -math.inf

    # What a conversation teaches.

    def hear(self, turn: Turn, outcomes: Sequence[Outcome]) -> None:
        """Learn from an attempt, while its turn is still held."""
        now = time.monotonic()
        troubled: dict[str, Outcome] = {}
        for outcome in outcomes:
            if (name := _lane_in_trouble(turn, outcome)) is not None:
                troubled.setdefault(name, outcome)
        for name, outcome in troubled.items():
            self._suffer(turn, self._pace.lane(name), outcome, now)
        for name in turn.lanes:
            if name not in troubled and (answered := [o for o in outcomes if _speaks_well_of(name, o)]):
                self._prosper(turn, self._pace.lane(name), answered, now)

    def _prosper(self, turn: Turn, lane: Lane, answered: Sequence[Outcome], now: float) -> None:
        taken = sum(outcome.verdict in TAKEN for outcome in answered)
        lane.succeed(taken, now)
        if lane.name in turn.probes:
            log.info("route_open", route=self._pace.route, lane=lane.name)
            self._believe(lane, None, now)
            self._write(lane, lambda: store.open_lane(self._db, self._pace.route, lane.name))

    def _suffer(self, turn: Turn, lane: Lane, outcome: Outcome, now: float) -> None:
        if outcome.reason == RATE_LIMITED:
            self._slow(turn, lane, outcome, now)
        elif outcome.reason == TOO_MANY_CONNECTIONS and len(lane.active) > 1:
            lane.narrow(len(lane.active) - 1, now)
        elif self._may_pass(lane, outcome, now):
            lane.failures += 1
            lane.narrow(lane.window / 2, now)
        else:
            self._hold(turn, lane, outcome, now)

    def _may_pass(self, lane: Lane, outcome: Outcome, now: float) -> bool:
        """Whether silence is one conversation's misfortune: others went well a moment ago."""
        is_silence = outcome.reason in UNANSWERED or outcome.verdict is not Verdict.HELD
        went_well = lane.window > 1 and now - lane.succeeded_at < STALL_SECONDS
        return is_silence and not lane.is_held and (went_well or lane.name != COMMON_LANE) and (
            lane.failures + 1 < MOST_FAILURES
        )  # fmt: skip

    def _slow(self, turn: Turn, lane: Lane, outcome: Outcome, now: float) -> None:
        began = turn.began or now
        refused_for = lane.refused_for(now)
        if refused_for is not None and began <= now - refused_for:
            return  # it was on its way when the last refusal came
        rate = refused_rate(lane.rate(now), lane.taken_lately(now) * self._pace.workers)
        log.warning("route_slowed", route=self._pace.route, lane=lane.name, rate=round(rate, 3), reason=outcome.reason)
        why = _why(outcome)
        self._believe(lane, self._temper(lane, why, state="slowed", rate=rate, slowed_for=0.0), now)
        self._write(lane, lambda: self._write_slow(lane, why, rate, began))

    async def _write_slow(self, lane: Lane, why: Why, rate: float, began: float) -> None:
        # By now: what another process has written meanwhile must count as later than this attempt.
        # And whoever began within the pause after a refusal cannot have heard of it.
        unheard = timedelta(seconds=time.monotonic() - began + LEAST_PAUSE_SECONDS)
        await store.slow(self._db, self._pace.route, lane.name, why, rate=rate, unheard=unheard)

    def _hold(self, turn: Turn, lane: Lane, outcome: Outcome, now: float) -> None:
        is_probe = lane.name in turn.probes
        if lane.is_held and not is_probe:
            return
        probes = lane.temper.probes + 1 if is_probe and lane.temper else 0
        why = _why(outcome)
        # Nothing that an address may stand in: the destination of one lane is its name.
        say = log.info if is_probe else log.error
        say("route_held", route=self._pace.route, lane=lane.name, stage=why.stage, reason=why.reason,
            smtp_code=why.code, probes=probes,
            to_do=lane_advice(self._pace.route, lane.name, held_by="replies", reason=why.reason))  # fmt: skip
        wait = probe_wait(why.reason, probes)
        before = lane.temper
        self._believe(
            lane,
            self._temper(lane, why, state="held", rate=before.rate if before else None,
                         slowed_for=lane.refused_for(now), probes=probes),
            now,
        )  # fmt: skip
        lane.window = 1 if lane.name == COMMON_LANE else lane.window
        lane.narrowed_at = None
        self._write(
            lane,
            lambda: store.hold(self._db, self._pace.route, lane.name, why, probe_in=wait, is_probe=is_probe),
        )

    def _believe(self, lane: Lane, temper: Temper | None, now: float) -> None:
        """Go by what was just heard, before the database has it; but nothing that is heard ends a hold by hand."""
        if lane.temper is None or not lane.temper.is_held_by_hand:
            lane.use(temper, now)

    def _temper(
        self, lane: Lane, why: Why, *, state: str, rate: float | None, slowed_for: float | None, probes: int = 0
    ) -> Temper:
        """Return what the fleet will read once this has been written."""
        return Temper(
            lane=lane.name,
            state=state,
            held_by="replies" if state == "held" else None,
            stage=why.stage,
            reason=why.reason,
            code=why.code,
            enhanced=why.enhanced,
            since=datetime.now(UTC),
            rate=rate,
            probes=probes,
            probe_at=None,
            slowed_for=slowed_for,
            is_probe_due=False,
            route=self._pace.route,
        )

    def _write(self, lane: Lane, change: Change) -> None:
        self._changes.append(change)
        self._changed_at[lane.name] = time.monotonic()
        self._wake.set()
        self._pace.admit()

    # What the fleet knows.

    def turns(self, room: int, queued: Iterable[str]) -> Turns:
        """Return what may be claimed now; nothing before it was read what is held, or when that is long ago.

        A worker that starts, or whose database was away, must not send what an operator has held meanwhile.
        """
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            return Turns({})
        return self._pace.turns(room, queued)

    async def keep(self) -> None:
        """Write what was learned and read what others have, until cancelled."""
        while True:
            try:
                await self.look()
            except DatabaseUnavailable as error:
                log.warning("pace_unavailable", error=error)
            self._wake.clear()
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that meets what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY.total_seconds()):
                    await self._wake.wait()

    async def look(self) -> None:
        """Write and read once; take the probes that are due."""
        while self._changes:
            await self._changes[0]()
            self._changes.pop(0)
        began = time.monotonic()
        tempers = {temper.lane: temper for temper in await store.list_tempers(self._db, self._pace.route)}
        if began >= self._counted_at + COUNT_WORKERS_EVERY_SECONDS:
            self._pace.workers, self._counted_at = await store.count_workers(self._db), began
        self._take_over(tempers, began)
        self._looked_at = time.monotonic()
        HELD_LANES.labels(route=self._pace.route).set(sum(temper.is_held for temper in tempers.values()))
        for temper in tempers.values():
            if temper.is_probe_due:
                await self._take_probe(temper)
            elif temper.state == "slowed":
                await self._settle_rate(self._pace.lane(temper.lane))
        self._forget_idle_lanes()
        self._pace.admit()

    def _take_over(self, tempers: dict[str, Temper], began: float) -> None:
        now = time.monotonic()
        for name in {*self._pace.lanes, *tempers}:
            temper = tempers.get(name)
            knows_better = self._changed_at.get(name, 0.0) >= began  # but never better than an operator
            if not knows_better or (temper is not None and temper.is_held_by_hand):
                self._pace.lane(name).use(temper, now)

    async def _take_probe(self, temper: Temper) -> None:
        lane = self._pace.lane(temper.lane)
        if lane.may_probe or temper.lane in _probing(lane):
            return
        if await store.lease_probe(self._db, self._pace.route, temper.lane, for_=PROBE_LEASE):
            if self._prepare is not None and temper.reason is not None:
                await self._prepare(temper.reason)
            lane.may_probe = True

    async def _settle_rate(self, lane: Lane) -> None:
        now = time.monotonic()
        rate = lane.rate(now)
        was_limited, lane.was_limited = lane.was_limited, False
        if rate is None or lane.temper is None or lane.temper.rate is None:
            return
        if rate > LIFTED * lane.temper.rate:
            await store.forget(self._db, self._pace.route, lane.name, after=timedelta(0))
        elif not was_limited and rate > lane.temper.rate:
            await store.rest(self._db, self._pace.route, lane.name, at=RECOVERY)
            await store.forget(self._db, self._pace.route, lane.name, after=FORGET_RATE_AFTER)

    def _forget_idle_lanes(self) -> None:
        horizon = time.monotonic() - FORGET_LANE_AFTER_SECONDS
        for name, lane in list(self._pace.lanes.items()):
            if name != COMMON_LANE and not lane.active and lane.temper is None and lane.used_at < horizon:
                self._pace.forget(name)
                self._changed_at.pop(name, None)


def _lane_in_trouble(turn: Turn, outcome: Outcome) -> str | None:
    """Name the lane that an outcome speaks against, if any."""
    if outcome.stage == "content" or outcome.reason in OURSELVES:
        return None  # no server was asked, or none was at fault
    destination = destination_lane(outcome.claim.domain)
    if outcome.verdict is Verdict.HELD:
        match outcome.scope:
            case Scope.DESTINATION:
                return destination
            case Scope.SENDER:
                return sender_lane(turn.claims.tenant_id, turn.claims.sender_domain)
            case _:
                return COMMON_LANE
    is_silence = outcome.code is None and outcome.reason in UNANSWERED
    return destination if is_silence and outcome.verdict in (Verdict.DEFERRED, Verdict.IN_DOUBT) else None


def _speaks_well_of(lane: str, outcome: Outcome) -> bool:
    """Whether a server answered in this lane: also with a refusal of this recipient."""
    if outcome.code is None and outcome.verdict not in TAKEN:
        return False
    return not lane.startswith("to:") or lane == destination_lane(outcome.claim.domain)


def _probing(lane: Lane) -> set[str]:
    return {name for turn in lane.active if isinstance(turn, Turn) for name in turn.probes}


def _why(outcome: Outcome) -> Why:
    return Why(outcome.stage, outcome.reason, outcome.code, outcome.enhanced)
