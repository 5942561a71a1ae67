"""The way to Redis, and whether it is asked at the moment: while it does not answer, each process limits by itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from limits.aio.storage import RedisStorage
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import RedisError

from email_gateway.observe import LIMITS_ALONE, get_logger

log = get_logger(__name__)

KEY_PREFIX = "email-gateway"
REDIS_TIMEOUT_SECONDS = 0.5
# While Redis is away every request would wait for its timeout; so it is asked again only this often.
REDIS_RETRY_SECONDS = 5.0

# The client opens a connection for each who asks at a time, and raises beyond a hundred.
MOST_CONNECTIONS = 32

Answer = TypeVar("Answer")


class RedisLink:
    """One for a process. `storage` is what the limits count in."""

    def __init__(self, redis_url: str) -> None:
        self.storage = RedisStorage(
            f"async+{redis_url}",
            wrap_exceptions=False,
            implementation="redispy",
            key_prefix=KEY_PREFIX,
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        )
        self._asked_again_at = 0.0
        self._connections = asyncio.Semaphore(MOST_CONNECTIONS)

    @property
    def redis(self) -> Any:
        """The client, for what the library does not count."""
        bridge: Any = self.storage.bridge  # its type leaves out the connection
        return bridge.get_connection()

    async def is_answering(self) -> bool:
        """Ask now, and have what is found count for every limit."""
        return await self._try(self._ping) is not None

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return what Redis answers, or None while it does not: then the caller limits by itself."""
        async with self._connections:
            if time.monotonic() < self._asked_again_at:
                return None
            return await self._try(question)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self.redis.aclose()

    async def _ping(self) -> bool:
        if not await self.storage.check():  # it keeps to itself why
            raise RedisAway
        return True

    async def _try(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        was_away = self._asked_again_at > 0.0
        try:
            answer = await question()
        except (RedisError, OSError) as error:
            self._asked_again_at = time.monotonic() + REDIS_RETRY_SECONDS
            LIMITS_ALONE.set(1)
            if not was_away:
                log.warning("redis_lost", error=type(error).__name__)
            return None
        if was_away:
            self._asked_again_at = 0.0
            LIMITS_ALONE.set(0)
            log.info("redis_found")
        return answer
