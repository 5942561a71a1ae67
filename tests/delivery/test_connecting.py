"""Several addresses of one host: the next is tried where one refuses or says nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from email_gateway.delivery.connecting import connect_first, find_addresses
from email_gateway.delivery.wire import Wire, WireBroken
from tests.delivery.attempting import refusing_address, silent_address
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server() -> AsyncIterator[tuple[SmtpServer, tuple[str, int]]]:
    async with SmtpServer() as running:
        yield running, ("127.0.0.1", running.port)


async def test_a_dead_address_and_one_that_refuses_do_not_fail_the_attempt() -> None:
    async with server() as (running, good):
        with silent_address() as dead:
            wire = await connect_first([dead, refusing_address(), dead, good], Wire)
            assert (await wire.read_reply(10)).code == 220
            wire.abort()
    assert running.connections == 1


async def test_an_address_that_answers_has_the_connection_to_itself() -> None:
    async with server() as (first, good), server() as (second, spare):
        wire = await connect_first([good, spare], Wire)
        await wire.read_reply(10)
        wire.abort()
    assert (first.connections, second.connections) == (1, 0)


async def test_nobody_there_is_the_refusal_of_the_last() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect_first([refusing_address(), refusing_address()], Wire)
    with pytest.raises(OSError, match="no address"):
        await connect_first([], Wire)


async def test_addresses_that_are_all_silent_time_out_together() -> None:
    with silent_address() as dead, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await connect_first([dead, dead], Wire)


async def test_a_host_is_connected_to_by_its_name() -> None:
    assert await find_addresses("127.0.0.1", 25) == [("127.0.0.1", 25)]
    assert ("127.0.0.1", 25) in await find_addresses("localhost", 25)
    async with server() as (running, (_, port)):
        wire = await Wire.open("localhost", port, 10)  # ::1 comes first where there is one, and nobody listens there
        await wire.read_reply(10)
        wire.abort()
        assert running.connections == 1


async def test_a_name_that_does_not_exist_is_a_connection_that_failed() -> None:
    with pytest.raises(WireBroken, match="connect_failed"):
        await Wire.open("nowhere.invalid", 25, 10)
