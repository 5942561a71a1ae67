import socket
import subprocess

import pytest

from email_gateway.limits import Limits, network_of

pytestmark = pytest.mark.anyio

CLIENT = "203.0.113.9"


async def fail(limits: Limits, client: str, times: int) -> None:
    for _ in range(times):
        assert await limits.admin_wait_seconds(client) == 0
        await limits.add_admin_failure(client)


async def test_ten_failures_make_a_client_wait_and_nobody_else() -> None:
    limits = Limits()
    await fail(limits, CLIENT, 10)
    assert 1 <= await limits.admin_wait_seconds(CLIENT) <= 60
    assert await limits.admin_wait_seconds("203.0.113.10") == 0
    assert await limits.redis_health() == "disabled"


async def test_wrong_api_keys_and_wrong_admin_keys_are_counted_apart() -> None:
    limits = Limits()
    for _ in range(10):
        await limits.add_key_failure(CLIENT)
    assert 1 <= await limits.key_wait_seconds(CLIENT) <= 60
    assert await limits.admin_wait_seconds(CLIENT) == 0


@pytest.mark.needs("redis-server")
async def test_with_redis_every_process_counts_together(redis: tuple[str, object]) -> None:
    one, two = Limits(redis[0]), Limits(redis[0])
    await fail(one, CLIENT, 5)
    await fail(two, CLIENT, 5)
    assert await one.admin_wait_seconds(CLIENT) > 0
    assert await two.admin_wait_seconds(CLIENT) > 0
    await one.close()
    await two.close()


@pytest.mark.needs("redis-server")
async def test_losing_redis_opens_no_fresh_allowance(redis: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    url, process = redis
    limits = Limits(url)
    await fail(limits, CLIENT, 10)
    process.kill()
    process.wait()
    assert await limits.redis_health() == "unavailable"
    assert await limits.admin_wait_seconds(CLIENT) > 0
    await limits.add_admin_failure(CLIENT)
    await limits.close()


async def test_without_redis_from_the_start_this_process_counts_alone() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        limits = Limits(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        await fail(limits, CLIENT, 10)
        assert await limits.admin_wait_seconds(CLIENT) > 0
        await limits.close()


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
        ("maria@example.net", "unknown"),
    ],
)
def test_a_client_is_what_one_person_is_given(client: str, network: str) -> None:
    assert network_of(client) == network
