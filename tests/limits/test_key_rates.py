"""Rates of API keys: exact over the fleet while a real Redis answers, a share of each process while it does not."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from email_gateway.limits import link as links
from email_gateway.limits.key_rates import KeyRates, Rate
from email_gateway.limits.link import RedisLink
from email_gateway.observe import REGISTRY
from tests.limits.conftest import Server

pytestmark = pytest.mark.anyio

# A window so long that none ends within a test.
RATE = Rate(40, 3600)


async def passed(rates: KeyRates, asked: int = 100, key: str = "key", rate: Rate = RATE) -> int:
    return sum([(await rates.take(key, rate)).is_allowed for _ in range(asked)])


def is_alone() -> bool:
    return REGISTRY.get_sample_value("email_gateway_limits_alone") == 1


def test_a_burst_is_rounded_up_to_whole_seconds_of_the_rate() -> None:
    assert Rate.of(10, 10) == Rate(10, 1)
    assert Rate.of(10, 5) == Rate(10, 1)
    assert Rate.of(10, 25) == Rate(30, 3)


async def test_one_process_lets_the_rate_pass_and_no_more_and_each_key_by_itself() -> None:
    rates = KeyRates()
    assert await passed(rates) == 40
    assert await passed(rates, key="another") == 40


async def test_a_request_is_told_how_it_stands() -> None:
    rates = KeyRates()
    standings = [await rates.take("key", RATE) for _ in range(41)]
    assert [standing.remaining for standing in standings] == [*range(39, -1, -1), 0]
    assert not standings[-1].is_allowed
    assert all(1 <= standing.reset_seconds <= 2 * RATE.seconds for standing in standings)


async def test_a_rate_that_was_changed_counts_at_once() -> None:
    rates = KeyRates()
    assert await passed(rates) == 40
    assert await passed(rates, rate=Rate(60, 3600)) == 60


async def test_without_redis_processes_share_and_none_is_left_without_anything() -> None:
    fleet = [KeyRates() for _ in range(4)]
    for rates in fleet:
        rates.processes = 4
    assert [await passed(rates) for rates in fleet] == [10] * 4
    assert await passed(fleet[0], key="slow", rate=Rate(2, 3600)) == 1


@pytest.mark.needs("redis-server")
async def test_with_redis_the_fleet_lets_the_rate_pass_however_many_ask_at_once(
    link: Callable[[], RedisLink],
) -> None:
    fleet = [KeyRates(link()) for _ in range(3)]
    for rates in fleet:
        rates.processes = 3
    asked = [rates.take("key", RATE) for _ in range(50) for rates in fleet]
    assert sum(standing.is_allowed for standing in await asyncio.gather(*asked)) == 40
    assert not is_alone()


@pytest.mark.needs("redis-server")
async def test_a_busy_key_asks_redis_less_often_than_it_is_used(link: Callable[[], RedisLink]) -> None:
    way = link()
    rates = KeyRates(way)
    assert await passed(rates, 1000, rate=Rate(2_000, 3600)) == 1000
    info = await way.redis.info("commandstats")
    assert info["cmdstat_evalsha"]["calls"] < 100


@pytest.mark.needs("redis-server")
async def test_a_killed_redis_leaves_each_process_its_share(redis: Server, link: Callable[[], RedisLink]) -> None:
    fleet = [KeyRates(link()) for _ in range(2)]
    for rates in fleet:
        rates.processes = 2
    assert await passed(fleet[0], 10) == 10
    redis[1].kill()
    redis[1].wait()
    after = [await passed(rates) for rates in fleet]
    assert is_alone()
    assert all(20 <= count <= 22 for count in after), after  # a share each, and what was leased before


@pytest.mark.needs("redis-server")
async def test_a_stopped_redis_delays_by_its_timeout_once_and_limits_all_the_same(
    redis: Server, link: Callable[[], RedisLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "REDIS_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(links, "REDIS_RETRY_SECONDS", 3600.0)
    rates = KeyRates(link())
    rates.processes = 2
    os.kill(redis[1].pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):  # a hundred timeouts would be fifty seconds
            assert await passed(rates, 200) == 20
        assert is_alone()
    finally:
        os.kill(redis[1].pid, signal.SIGCONT)


@pytest.mark.needs("redis-server")
async def test_a_flushed_redis_begins_one_window_anew_and_no_more(redis: Server, link: Callable[[], RedisLink]) -> None:
    way = link()
    rates = KeyRates(way)
    assert await passed(rates) == 40
    await way.redis.flushall()
    await asyncio.sleep(0.15)  # a refusal is kept for a tenth of a second
    assert await passed(rates) == 40
    assert not (await rates.take("key", RATE)).is_allowed


@pytest.mark.needs("redis-server")
async def test_a_redis_that_is_back_counts_for_the_fleet_again(
    redis: Server, link: Callable[[], RedisLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "REDIS_TIMEOUT_SECONDS", 0.5)
    way = link()
    rates = KeyRates(way)
    rates.processes = 4
    os.kill(redis[1].pid, signal.SIGSTOP)
    assert await passed(rates) == 10
    os.kill(redis[1].pid, signal.SIGCONT)
    monkeypatch.undo()
    assert await way.is_answering()
    assert not is_alone()
    assert await passed(rates, key="another") == 40
