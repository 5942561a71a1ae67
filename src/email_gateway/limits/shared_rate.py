"""One rate for the whole fleet, counted in Redis: who asks is told how long to wait for its place."""

import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

KEY_PREFIX = "email-gateway:pace"
REDIS_TIMEOUT_SECONDS = 0.5
REDIS_RETRY_SECONDS = 5.0  # while Redis is away each process keeps to its part by itself

# The generic cell rate algorithm without a burst: the key holds the microsecond from which the next place
# is free. Redis' own clock counts, so that nobody's else matters.
_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = tonumber(redis.call('GET', KEYS[1]) or '0')
local start = math.max(now, free)
redis.call('SET', KEYS[1], string.format('%.0f', start + ARGV[1] * ARGV[2]), 'PX', 60000)
return string.format('%.0f', start - now)
"""


class SharedRate:
    """Reserves places in a rate that every process of the fleet keeps to."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_SECONDS, socket_connect_timeout=REDIS_TIMEOUT_SECONDS
        )
        self._reserve: Any = self._redis.register_script(_RESERVE)
        self._asked_again_at = 0.0

    async def reserve(self, name: str, rate: float, count: int) -> float | None:
        """Take `count` places at `rate` a second; return after how many seconds they are free.

        None while Redis does not answer: then the caller keeps to its own part of the rate.
        """
        if time.monotonic() < self._asked_again_at:
            return None
        try:
            wait = await self._reserve(keys=[f"{KEY_PREFIX}:{name}"], args=[1_000_000 / rate, count])
        except (RedisError, OSError):
            self._asked_again_at = time.monotonic() + REDIS_RETRY_SECONDS
            return None
        return float(wait) / 1_000_000

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()
