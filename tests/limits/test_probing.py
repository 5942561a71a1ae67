"""Why a Redis cannot be used."""

import asyncio
from pathlib import Path

import pytest

from email_gateway.limits.probing import probe_redis
from tests.redis_server import running_redis

pytestmark = pytest.mark.anyio

PATIENT = 30.0


@pytest.mark.needs("redis-server")
async def test_a_server_with_a_password_takes_it_and_refuses_others(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--requirepass", "right") as (url, _):
        bare, wrong, right = (url.replace("//", f"//{login}") for login in ("", ":wrong@", ":right@"))
        assert (await probe_redis(bare, PATIENT)).problem == "refused"
        assert (await probe_redis(wrong, PATIENT)).problem == "refused"
        found = await probe_redis(right, PATIENT)
    assert (found.problem, found.version[0].isdigit()) == (None, True)


async def test_nobody_there_is_unreachable() -> None:
    assert (await probe_redis("redis://127.0.0.1:1/0", PATIENT)).problem == "unreachable"


async def test_a_server_that_says_nothing_is_silent() -> None:
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        assert (await probe_redis(f"redis://127.0.0.1:{port}/0", 0.2)).problem == "silent"
