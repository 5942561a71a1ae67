"""What callers may do how often: counted in Redis for the fleet, or in memory for this process.

Here: how often a client may fail. `callers` is what an API key and its tenant may do.
"""

import ipaddress
import time
from math import ceil

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.strategies import MovingWindowRateLimiter

from email_gateway.limits.failures import RecentFailures
from email_gateway.limits.link import RedisLink

MAX_FAILURES = 10  # a minute
ADMIN_FAILURES = RateLimitItemPerMinute(MAX_FAILURES, namespace="admin-failures")
KEY_FAILURES = RateLimitItemPerMinute(MAX_FAILURES, namespace="key-failures")


class Limits:
    """Limits that hold across processes while Redis answers, and within this one while it does not.

    Both are counted always, so that losing Redis opens no fresh allowance. One event loop per object.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._memory = {
            item.namespace: RecentFailures(item.amount, item.get_expiry()) for item in (ADMIN_FAILURES, KEY_FAILURES)
        }
        self.link = RedisLink(redis_url) if redis_url is not None else None
        self._shared = MovingWindowRateLimiter(self.link.storage) if self.link else None

    async def admin_wait_seconds(self, client: str) -> int:
        """Return how long this client must wait before its admin key is looked at; 0 when it need not."""
        return await self._wait_seconds(ADMIN_FAILURES, network_of(client))

    async def add_admin_failure(self, client: str) -> None:
        """Count a wrong admin key against this client."""
        await self._hit(ADMIN_FAILURES, network_of(client))

    async def key_wait_seconds(self, client: str) -> int:
        """Return how long this client must wait before an API key is looked up for it; 0 when it need not."""
        return await self._wait_seconds(KEY_FAILURES, network_of(client))

    async def add_key_failure(self, client: str) -> None:
        """Count an API key that nobody has against this client."""
        await self._hit(KEY_FAILURES, network_of(client))

    async def redis_health(self) -> str:
        """Return `ok`, `unavailable`, or `disabled` where no Redis is configured."""
        if self.link is None:
            return "disabled"
        return "ok" if await self.link.is_answering() else "unavailable"

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self.link is not None:
            await self.link.close()

    async def _wait_seconds(self, item: RateLimitItem, who: str) -> int:
        # First what costs nothing: whoever fails thousands of times a second is not to weigh on Redis.
        if wait := self._memory[item.namespace].wait_seconds(who):
            return wait
        if self.link is None or (shared := self._shared) is None:
            return 0
        return await self.link.ask(lambda: _wait(shared, item, who)) or 0

    async def _hit(self, item: RateLimitItem, who: str) -> None:
        self._memory[item.namespace].add(who)
        if self.link is not None and (shared := self._shared) is not None:
            await self.link.ask(lambda: shared.hit(item, who))


async def _wait(limiter: MovingWindowRateLimiter, item: RateLimitItem, who: str) -> int:
    if await limiter.test(item, who):
        return 0
    stats = await limiter.get_window_stats(item, who)
    return max(1, ceil(stats.reset_time - time.time()))


def network_of(client: str) -> str:
    """Name what one person is given: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
