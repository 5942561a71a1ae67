"""A real Redis on a loopback port, given all the time it needs."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from email_gateway.limits.link import RedisLink
from email_gateway.observe import LIMITS_ALONE
from tests.redis_server import running_redis

Server = tuple[str, "subprocess.Popen[bytes]"]


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Its URL and its process."""
    monkeypatch.setattr("email_gateway.limits.link.REDIS_TIMEOUT_SECONDS", 10.0)
    with running_redis(tmp_path) as running:
        yield running


@pytest.fixture
async def link(redis: Server) -> AsyncIterator[Callable[[], RedisLink]]:
    """Makes the way to it that a process has; closed with the test."""
    LIMITS_ALONE.set(0)  # a test before this may have lost its own
    async with AsyncExitStack() as opened:

        def make() -> RedisLink:
            made = RedisLink(redis[0])
            opened.push_async_callback(made.close)
            return made

        yield make
