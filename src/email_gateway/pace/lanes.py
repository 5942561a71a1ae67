"""One lane of a route as this process knows it: who is at it, how wide and how fast it is, what it waits for."""

import time
from collections import deque
from dataclasses import dataclass, field

from email_gateway.pace.rates import allowed_rate, pause_after_refusal
from email_gateway.store.pace import Temper

SECOND = 1.0
# After too many connections were refused, one more is tried this often.
WIDEN_EVERY_SECONDS = 30.0
# A destination that holds conversations for so long without finishing any is hanging.
STALL_SECONDS = 5.0


@dataclass(slots=True)
class Lane:
    """The route itself, or a destination or a sender within it.

    `window` is how many conversations may be held at once: it grows by one with each that goes well
    (slow start) up to `most`, and falls when the server has too many or stays silent.
    """

    name: str
    window: float
    most: int
    temper: Temper | None = None
    read_at: float = 0.0  # when `temper` was read, on the monotonic clock
    active: dict[object, float] = field(default_factory=dict)  # conversations, and when each began
    failures: int = 0  # since the last that went well
    succeeded_at: float = 0.0
    used_at: float = 0.0
    may_probe: bool = False  # this process has the one probe of the fleet
    next_start: float = 0.0  # of a lane with a rate, by this process's part of it
    paused_until: float = 0.0  # after a refusal
    was_limited: bool = False  # whether the rate made anybody wait lately
    narrowed_at: float | None = None
    taken: deque[tuple[float, int]] = field(
        default_factory=deque
    )  # recipients that the server took, of the last second

    @property
    def is_held(self) -> bool:
        return self.temper is not None and self.temper.is_held

    @property
    def is_shut(self) -> bool:
        """Whether nothing may begin here, not even a probe."""
        return self.is_held and not self.may_probe

    @property
    def is_slowed(self) -> bool:
        return self.temper is not None and self.temper.rate is not None and not self.is_held

    def is_stalled(self, now: float) -> bool:
        """Whether conversations hang here: several for seconds, and none has ended well meanwhile."""
        if len(self.active) < 3 or now - self.succeeded_at < STALL_SECONDS:
            return False
        return sum(now - began >= STALL_SECONDS for began in self.active.values()) >= 3

    def rate(self, now: float) -> float | None:
        """Return the fleet's rate at this moment, in recipients a second; None without a limit."""
        refused_for = self.refused_for(now)
        if self.temper is None or self.temper.rate is None or refused_for is None:
            return None
        return allowed_rate(self.temper.rate, refused_for)

    def refused_for(self, now: float) -> float | None:
        """Return for how many seconds nothing has been refused for its rate; None where nothing ever was."""
        if self.temper is None or self.temper.slowed_for is None:
            return None
        return self.temper.slowed_for + now - self.read_at

    def use(self, temper: Temper | None, now: float) -> None:
        """Take over what the fleet knows; a refusal that was news to this process makes it pause."""
        before = self.refused_for(now)
        self.temper, self.read_at = temper, now
        if temper is None or temper.held_by != "replies":
            self.may_probe = False
        if temper is None or temper.rate is None or temper.slowed_for is None:
            return
        if before is None or temper.slowed_for < before - SECOND:
            self.paused_until = now - temper.slowed_for + pause_after_refusal(temper.rate)

    def begin(self, who: object, now: float) -> None:
        """Count a conversation in."""
        self.active[who] = self.used_at = now
        self.may_probe = False

    def end(self, who: object) -> None:
        """Count a conversation out."""
        self.active.pop(who, None)

    def succeed(self, recipients: int, now: float) -> None:
        """Note that the server answered as it should, and took mail for so many."""
        self.failures, self.succeeded_at = 0, now
        if recipients:
            self.taken.append((now, recipients))
        if self.narrowed_at is None:
            self.window = min(self.window + 1, self.most)
        elif now - self.narrowed_at >= WIDEN_EVERY_SECONDS:
            self.window, self.narrowed_at = min(self.window + 1, self.most), now

    def narrow(self, to: float, now: float) -> None:
        """Hold fewer conversations at once: what the server bears, or half of what it did not."""
        self.window, self.narrowed_at = max(1.0, to), now

    def taken_lately(self, now: float) -> int:
        """Return for how many recipients the server took mail within the last second."""
        while self.taken and now - self.taken[0][0] > SECOND:
            self.taken.popleft()
        return sum(recipients for _, recipients in self.taken)


def new_lane(name: str, window: float, most: int) -> Lane:
    """Return a lane that nobody has used yet."""
    return Lane(name, window, most, succeeded_at=time.monotonic())
