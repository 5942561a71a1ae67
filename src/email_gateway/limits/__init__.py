"""How often a client may fail: counted in Redis for the fleet, or in memory for this process."""

import ipaddress
import time
from math import ceil
from typing import Any

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

ADMIN_FAILURES = RateLimitItemPerMinute(10, namespace="admin-failures")
KEY_PREFIX = "email-gateway"
REDIS_TIMEOUT_SECONDS = 0.5
# While Redis is away every request would wait for its timeout; so it is asked again only this often.
REDIS_RETRY_SECONDS = 5.0


class Limits:
    """Limits that hold across processes while Redis answers, and within this one while it does not.

    Both are counted always, so that losing Redis opens no fresh allowance. One event loop per object.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._memory = MovingWindowRateLimiter(MemoryStorage())
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
        waits = [await _wait(self._memory, item, who)]
        if self._shared is not None and time.monotonic() >= self._redis_asked_again_at:
            try:
                waits.append(await _wait(self._shared, item, who))
            except (RedisError, OSError):
                self._lose_redis()
        return max(waits)

    async def _hit(self, item: RateLimitItem, who: str) -> None:
        await self._memory.hit(item, who)
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
