"""How often a client may fail: counted in Redis for the fleet, or in memory for this process."""

import ipaddress
import time
from math import ceil
from typing import Any

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from email_gateway.limits.failures import RecentFailures

MAX_FAILURES = 10  # a minute
ADMIN_FAILURES = RateLimitItemPerMinute(MAX_FAILURES, namespace="admin-failures")
KEY_FAILURES = RateLimitItemPerMinute(MAX_FAILURES, namespace="key-failures")
KEY_PREFIX = "email-gateway"
REDIS_TIMEOUT_SECONDS = 0.5
# While Redis is away every request would wait for its timeout; so it is asked again only this often.
REDIS_RETRY_SECONDS = 5.0


class Limits:
    """Limits that hold across processes while Redis answers, and within this one while it does not.

    Both are counted always, so that losing Redis opens no fresh allowance. One event loop per object.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._memory = {
            item.namespace: RecentFailures(item.amount, item.get_expiry()) for item in (ADMIN_FAILURES, KEY_FAILURES)
        }
        self._shared: MovingWindowRateLimiter | None = None
        self._redis: RedisStorage | None = None
        self._redis_asked_again_at = 0.0
        if redis_url is not None:
            self._redis = RedisStorage(
                f"async+{redis_url}",
                wrap_exceptions=False,
                implementation="redispy",
                key_prefix=KEY_PREFIX,
                socket_timeout=REDIS_TIMEOUT_SECONDS,
                socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            )
            self._shared = MovingWindowRateLimiter(self._redis)

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
        if self._redis is None:
            return "disabled"
        try:
            return "ok" if await self._redis.check() else self._lose_redis()
        except (RedisError, OSError):
            return self._lose_redis()

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            bridge: Any = self._redis.bridge  # its type leaves out the connection
            await bridge.get_connection().aclose()

    async def _wait_seconds(self, item: RateLimitItem, who: str) -> int:
        # First what costs nothing: whoever fails thousands of times a second is not to weigh on Redis.
        if wait := self._memory[item.namespace].wait_seconds(who):
            return wait
        if self._shared is not None and time.monotonic() >= self._redis_asked_again_at:
            try:
                return await _wait(self._shared, item, who)
            except (RedisError, OSError):
                self._lose_redis()
        return 0

    async def _hit(self, item: RateLimitItem, who: str) -> None:
        self._memory[item.namespace].add(who)
        if self._shared is not None and time.monotonic() >= self._redis_asked_again_at:
            try:
                await self._shared.hit(item, who)
            except (RedisError, OSError):
                self._lose_redis()

    def _lose_redis(self) -> str:
        self._redis_asked_again_at = time.monotonic() + REDIS_RETRY_SECONDS
        return "unavailable"


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
