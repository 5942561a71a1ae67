"""One look at a Redis server: whether it answers, and if not, why."""

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import TimeoutError as RedisTimeout


@dataclass(frozen=True, slots=True)
class RedisFound:
    """What was found; `problem` is None where all is well, else refused, unreachable, silent or no_redis."""

    version: str = ""
    problem: str | None = None


async def probe_redis(url: str, seconds: float) -> RedisFound:
    """Log in and ask for the version; changes nothing and raises nothing. Each step has `seconds`."""
    try:
        redis = Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)
        try:
            info = await redis.info("server")
        finally:
            await redis.aclose()
    except (AuthenticationError, NoPermissionError, ResponseError):  # a wrong password, or none where one is asked for
        return RedisFound(problem="refused")
    except (RedisTimeout, TimeoutError):
        return RedisFound(problem="silent")
    except (RedisAway, OSError):
        return RedisFound(problem="unreachable")
    except (RedisError, ValueError, TypeError, AttributeError):  # of an answer in another protocol
        return RedisFound(problem="no_redis")
    return RedisFound(version=str(info.get("redis_version", "?")))
