"""How many requests an API key may make: counted in Redis for the fleet, else each process keeps to its share."""

import time
from collections import Counter
from dataclasses import dataclass
from math import ceil

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.util import WindowStats

from email_gateway.flights import Flights
from email_gateway.limits.link import RedisLink

NAMESPACE = "key-rate"
# A process takes this part of what all may have at once, so that a busy key costs one question for many requests.
LEASE_PARTS = 20
LEASE_SECONDS = 0.5  # what was taken and not used by then is lost to the key
# For so long a key that was refused is refused without asking: who insists is not to weigh on Redis.
REFUSED_SECONDS = 0.1
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` requests in any `seconds`."""

    amount: int
    seconds: int

    @classmethod
    def of(cls, per_second: int, burst: int) -> "Rate":
        """Return the rate that allows `burst` at once, rounded up to whole seconds of `per_second`."""
        seconds = max(1, ceil(burst / per_second))
        return cls(per_second * seconds, seconds)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands after a request: what remains of its rate, and in how many seconds there is more."""

    rate: Rate
    remaining: int
    reset_seconds: int
    is_allowed: bool


@dataclass(slots=True)
class _Lease:
    """Requests that this process may let pass until a monotonic time; none of them is a refusal until then."""

    rate: Rate
    left: int
    remaining: int
    reset_at: float
    until: float

    def use(self, rate: Rate) -> Standing | None:
        now = time.monotonic()
        is_refusal = self.remaining < 0
        if self.rate != rate or now >= self.until or (self.left == 0 and not is_refusal):
            return None
        if not is_refusal:
            self.left -= 1
        reset = max(1, ceil(self.reset_at - now))
        return Standing(rate, max(0, self.remaining) + self.left, reset, is_allowed=not is_refusal)


class KeyRates:
    """The rates of all keys. `processes` is how many api processes live, which share while Redis does not count."""

    def __init__(self, link: RedisLink | None = None) -> None:
        self.processes = 1
        self._link = link
        self._shared = SlidingWindowCounterRateLimiter(link.storage) if link else None
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._leases: dict[str, _Lease] = {}
        self._waiting = Counter[str]()
        self._asking = Flights[str, None]()

    async def take(self, key: str, rate: Rate) -> Standing:
        """Count a request; it may pass if `is_allowed`. Never fails, and waits for Redis half a second at most."""
        while (lease := self._leases.get(key)) is None or (standing := lease.use(rate)) is None:
            self._waiting[key] += 1
            try:
                await self._asking.join(key, lambda: self._take_lease(key, rate))
            finally:
                self._waiting[key] -= 1
        return standing

    async def _take_lease(self, key: str, rate: Rate) -> None:
        lease = None
        if self._link is not None and (shared := self._shared) is not None:
            lease = await self._link.ask(lambda: self._ask(shared, key, rate, rate.amount))
        if lease is None:
            lease = await self._ask(self._alone, key, rate, max(1, rate.amount // self.processes))
        if len(self._leases) >= MAX_KEYS:
            self._leases.clear()
            self._waiting += Counter()  # drops what is zero
        self._leases[key] = lease

    async def _ask(self, limiter: SlidingWindowCounterRateLimiter, key: str, rate: Rate, amount: int) -> _Lease:
        item = RateLimitItemPerSecond(amount, rate.seconds, namespace=NAMESPACE)
        wanted = min(amount, max(rate.amount // (LEASE_PARTS * self.processes), self._waiting[key], 1))
        taken = wanted if await limiter.hit(item, key, cost=wanted) else 0
        stats = await limiter.get_window_stats(item, key)
        if not taken and 0 < stats.remaining < wanted and await limiter.hit(item, key, cost=stats.remaining):
            taken, stats = stats.remaining, WindowStats(stats.reset_time, 0)
        now = time.monotonic()
        reset_at = now + max(0.0, stats.reset_time - time.time())
        until = now + (LEASE_SECONDS if taken else REFUSED_SECONDS)
        return _Lease(rate, taken, stats.remaining if taken else -1, reset_at, until)
