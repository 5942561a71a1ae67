"""The pace of one route in this process: the line before it, and what each conversation teaches."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claims
from email_gateway.pace.lanes import Lane, new_lane
from email_gateway.pace.limits import FIRST_DESTINATION_WINDOW, PaceLimits
from email_gateway.pace.turns import Turn
from email_gateway.store.deliveries import Turns

# Reserves room for recipients in the fleet's count of a lane at a rate a second, and returns after how
# many seconds it is theirs; None while there is no such count.
Reserve = Callable[[str, float, int], Awaitable[float | None]]

PATIENCE_SECONDS = 2.0  # then a claim whose destination has no room goes back, and others come
LEAST_AHEAD = 4
AHEAD_SECONDS = 0.1  # of what the route takes, claimed before its turn: more would be served out of turn
AHEAD_OF_RATE_SECONDS = 0.25
RESERVATION_SECONDS = 0.05
PLACES = 2  # that a turn may be behind at a slow rate and still be worth holding


class Pace:
    """Says which deliveries to take (`turns`), and when each attempt may begin (`stand_in_line`).

    One object for a route and a process; `Keeper` tells it what the fleet knows.
    """

    def __init__(self, route: str, limits: PaceLimits, reserve: Reserve | None = None) -> None:
        self.route = route
        self.limits = limits
        self.workers = 1
        self.lanes: dict[str, Lane] = {}
        self._reserve = reserve
        self._destinations = 0  # lanes among `lanes` that are one
        self._line: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf
        self._is_admitting = False
        self._reservations: set[asyncio.Task[None]] = set()

    def lane(self, name: str) -> Lane:
        """Return the lane of this name, as new when nobody has used it."""
        if name not in self.lanes:
            whole = name == COMMON_LANE
            # A route begins with one conversation: a wrong password is one failed login, not twenty.
            window = 1 if whole else FIRST_DESTINATION_WINDOW
            most = self.limits.conversations
            self.lanes[name] = new_lane(name, min(window, most), most)
            self._destinations += name.startswith("to:")
        return self.lanes[name]

    def forget(self, name: str) -> None:
        """Drop what is known of a lane that nobody uses."""
        del self.lanes[name]
        self._destinations -= name.startswith("to:")

    # Which deliveries to take.

    def turns(self, room: int, queued: Iterable[str]) -> Turns:
        """Return what may be claimed now: at most `room`, from the lanes in which something is queued."""
        now, queued = time.monotonic(), tuple(queued)
        lanes = [name for name in queued if name == SUSPECT_LANE or not self.lane(name).is_shut]
        room = self._room(room, now)
        if room <= 0 or not lanes:
            return Turns({})
        share = max(1, room // len(lanes))
        quotas = {name: self._quota(name, share, now) for name in lanes}
        if COMMON_LANE in quotas:  # what the others cannot use is for whoever waits for nothing
            quotas[COMMON_LANE] += max(0, room - sum(quota for quota in quotas.values() if quota > 0))
        return Turns(
            {name: quota for name, quota in quotas.items() if quota > 0},
            destinations=frozenset(name.removeprefix("to:") for name in self._waiting_lanes("to:", now, queued)),
            senders=frozenset(self._waiting_lanes("from:", now, queued)),
        )

    def _room(self, room: int, now: float) -> int:
        route = self.lane(COMMON_LANE)
        if route.is_held:
            return int(route.may_probe and not self._line)
        rate = self._rate(route, now)
        if rate is not None:
            return min(room, max(1, int(rate * AHEAD_OF_RATE_SECONDS)) - len(self._line))
        free = max(0, self._most(route) - len(route.active))
        ahead = max(LEAST_AHEAD, int(route.taken_lately(now) * AHEAD_SECONDS))
        return min(room, free + ahead - len(self._line))

    def _quota(self, name: str, share: int, now: float) -> int:
        if name == SUSPECT_LANE:
            return share
        lane = self.lanes[name]
        if lane.is_held:
            return 1  # the probe
        if name.startswith("to:"):
            if lane.is_stalled(now):
                return 0
            # More would only stand in the line, and keep others out of it.
            waiting = sum(name in turn.lanes for turn in self._line)
            return min(share, self._most(lane) + LEAST_AHEAD - len(lane.active) - waiting)
        return share

    def _most(self, lane: Lane) -> int:
        """Return how many conversations a lane may hold now: no destination takes all that others need."""
        window = max(1, int(lane.window))
        if lane.name == COMMON_LANE and self.limits.fleet_conversations is not None:
            return min(window, max(1, self.limits.fleet_conversations // self.workers))
        if lane.name != COMMON_LANE and self._destinations > 1:
            return min(window, self.limits.per_destination)
        return window

    def _waiting_lanes(self, kind: str, now: float, queued: tuple[str, ...]) -> list[str]:
        return [
            name
            for name, lane in self.lanes.items()
            if name.startswith(kind)
            and (lane.temper is not None or lane.is_stalled(now) or self._is_crowded(lane))
            # Where nothing stands in a lane that is to be probed, a suspect of it must do: suspects are not moved.
            and not (lane.is_held and lane.may_probe and name not in queued)
        ]

    def _is_crowded(self, lane: Lane) -> bool:
        """Whether a destination has as many conversations as it may, and there are others to make room for."""
        return self._destinations > 1 and self._is_full(lane) and not self._is_full(self.lane(COMMON_LANE))

    def _is_full(self, lane: Lane) -> bool:
        """Whether no further conversation may begin in a lane."""
        return not lane.name.startswith("from:") and len(lane.active) >= self._most(lane)

    # When an attempt may begin.

    def stand_in_line(self, claims: Claims) -> Turn:
        """Return the claims' turn, to be entered with `async with`."""
        turn = Turn(self, claims)
        for name in turn.lanes:
            self.lane(name)
        self._line.append(turn)
        self._admit_soon()
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a turn's room to the next."""
        for name in turn.lanes:
            self.lane(name).end(turn)
        self._admit_soon()

    def _admit_soon(self) -> None:
        if not self._is_admitting:  # once for all that happens in this turn of the loop
            self._is_admitting = True
            asyncio.get_running_loop().call_soon(self.admit)

    def admit(self) -> None:
        """Let begin whoever may begin now, in the order of the line; send away whoever would wait long."""
        self._is_admitting = False
        now = time.monotonic()
        soonest = PATIENCE_SECONDS
        kept: deque[Turn] = deque()
        full: set[str] = set()  # found to be so in this pass: nobody behind has a chance
        route = self.lane(COMMON_LANE)
        rate = self._rate(route, now)
        # Where one goes every few seconds, whoever is next in the line may stay there.
        patience = max(PATIENCE_SECONDS, PLACES / rate) if rate else PATIENCE_SECONDS
        while self._line and not (self._is_full(route) and not route.is_held):
            turn = self._line.popleft()
            if not turn.is_waiting:
                continue
            wait = PATIENCE_SECONDS if full and not full.isdisjoint(turn.lanes) else self._wait(turn, now, full)
            if wait is None or (wait and turn.start_at is None and now - turn.since > patience):
                turn.refuse()
            elif wait:
                soonest = min(soonest, wait)
                kept.append(turn)
            else:
                self._begin(turn, now)
        self._line.extendleft(reversed(kept))
        if self._line and now + soonest < self._looks_at:
            self._look_again(now, soonest)

    def _begin(self, turn: Turn, now: float) -> None:
        recipients = len(turn.claims)
        for name in turn.lanes:
            lane = self.lane(name)
            if lane.is_held:
                turn.probes.add(name)
            if rate := self._rate(lane, now):
                lane.next_start = max(now, lane.next_start) + recipients / rate
            lane.begin(turn, now)
        turn.begin(now)

    def _wait(self, turn: Turn, now: float, full: set[str]) -> float | None:
        """Return the seconds until a turn may be looked at again, 0 when it may begin, None when it should go."""
        wait = 0.0
        lanes = [self.lane(name) for name in turn.lanes]
        for lane in lanes:
            if lane.temper is not None or self.limits.rate is not None:
                if lane.is_shut:
                    return None
                wait = max(wait, self._rate_wait(turn, lane, now))
        for lane in lanes:
            if self._is_full(lane):
                full.add(lane.name)
                return PATIENCE_SECONDS
        return wait

    def _rate_wait(self, turn: Turn, lane: Lane, now: float) -> float:
        rate = self._rate(lane, now)
        if rate is None:
            return 0.0
        start_at = max(lane.next_start, lane.paused_until)
        if self._reserve is not None and lane.name == COMMON_LANE:
            if turn.start_at is None:
                if not self._reservations:  # one at a time: places that nobody takes are lost to the fleet
                    self._begin_reserving(turn, lane, rate * self.workers)
                return RESERVATION_SECONDS
            start_at = max(turn.start_at, lane.paused_until)
        if start_at > now:
            lane.was_limited = True
        return max(0.0, start_at - now)

    def _rate(self, lane: Lane, now: float) -> float | None:
        """Return this process's part of what the fleet may send in this lane, in recipients a second."""
        learned = lane.rate(now)
        chosen = self.limits.rate if lane.name == COMMON_LANE else None
        rates = [rate for rate in (learned, chosen) if rate is not None]
        return min(rates) / self.workers if rates else None

    def _begin_reserving(self, turn: Turn, lane: Lane, rate: float) -> None:
        task = asyncio.create_task(self._reserve_for(turn, lane, rate))
        self._reservations.add(task)
        task.add_done_callback(self._reservations.discard)

    async def _reserve_for(self, turn: Turn, lane: Lane, rate: float) -> None:
        assert self._reserve is not None  # or nobody would ask
        wait = await self._reserve(f"{self.route}/{lane.name}", rate, len(turn.claims))
        now = time.monotonic()
        turn.start_at = lane.next_start if wait is None else now + wait
        self.admit()

    def _look_again(self, now: float, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = now + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer, self._looks_at = None, math.inf
        self.admit()
