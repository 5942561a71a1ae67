"""One connection of lines: what breaks it, for whom, and what it refuses to hold."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from email_gateway.delivery.wire import Wire, WireBroken
from tests.delivery.certificates import Authority

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def wire_to(*said: bytes, close: bool = False) -> AsyncIterator[Wire]:
    """A wire to a server that says this, each piece once a line came, and then closes or stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for number, octets in enumerate(said):
                if number:
                    await reader.readline()
                writer.write(octets)
                await writer.drain()
            if not close:
                await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = await Wire.open("127.0.0.1", server.sockets[0].getsockname()[1], 10)
    try:
        yield wire
    finally:
        wire.abort()
        server.close()


async def test_replies_come_in_order_and_the_wire_is_quiet_between() -> None:
    async with wire_to(b"220 hi\r\n", b"250 one\r\n") as wire:
        assert (await wire.read_reply(10)).code == 220
        assert wire.is_quiet
        wire.write(b"X\r\n")
        await wire.flush(10)
        assert (await wire.read_reply(10)).lines == (b"one",)
        assert not wire.is_broken


async def test_silence_times_out_and_breaks_the_wire() -> None:
    async with wire_to() as wire:
        with pytest.raises(WireBroken, match="timeout"):
            await wire.read_reply(0.05)
        assert wire.is_broken
        with pytest.raises(WireBroken, match="timeout"):
            wire.write(b"X\r\n")


async def test_a_time_that_has_passed_already_times_out() -> None:
    async with wire_to(b"220 hi\r\n") as wire:
        await wire.read_reply(10)
        with pytest.raises(WireBroken, match="timeout"):
            await wire.read_reply(-1)


async def test_an_alarm_that_was_set_for_an_earlier_wait_ends_no_later_one() -> None:
    async with wire_to(b"220 hi\r\n", b"250 late\r\n") as wire:
        await wire.read_reply(0.5)
        asyncio.get_running_loop().call_later(0.7, wire.write, b"X\r\n")  # the alarm has rung by then
        assert (await wire.read_reply(10)).code == 250


async def test_a_wait_ends_in_time_though_an_alarm_for_a_longer_one_is_set() -> None:
    async with wire_to(b"220 hi\r\n") as wire:
        await wire.read_reply(600)
        async with asyncio.timeout(60):
            with pytest.raises(WireBroken, match="timeout"):
                await wire.read_reply(0.05)


async def test_a_server_that_closes_is_a_lost_connection() -> None:
    async with wire_to(b"220 hi\r\n", close=True) as wire:
        await wire.read_reply(10)
        with pytest.raises(WireBroken, match="connection_lost"):
            await wire.read_reply(10)


async def read_for_ever(wire: Wire) -> None:
    while True:
        await wire.read_reply(10)


async def test_a_server_that_talks_unasked_is_cut_off_before_it_fills_memory() -> None:
    async with wire_to(b"250 ok\r\n" * 1_000_000) as wire:
        with pytest.raises(WireBroken, match="protocol_error"):
            await read_for_ever(wire)
        assert not wire.is_quiet


async def test_a_cancelled_reader_leaves_the_wire_to_be_closed_by_its_owner() -> None:
    async with wire_to() as wire:
        reading = asyncio.create_task(wire.read_reply(10))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not wire.is_broken


@pytest.mark.parametrize("host", ["x" * 70 + ".example", "127.0.0.1"])
async def test_no_server_is_a_connection_that_failed(host: str) -> None:
    unused = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    with pytest.raises(WireBroken, match="connect_failed"):
        await Wire.open(host, port, 5)


async def test_octets_in_clear_that_wait_already_refuse_the_upgrade() -> None:
    async with wire_to(b"220 hi\r\n250 injected\r\n") as wire:
        await wire.read_reply(10)
        with pytest.raises(WireBroken, match="protocol_error"):
            await wire.start_tls(Authority().trust(), "127.0.0.1", 10)


async def test_flush_through_tls_waits_for_the_records_too() -> None:
    authority = Authority()

    async def never_read(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(never_read, "127.0.0.1", 0, ssl=authority.server())
    wire = await Wire.open("127.0.0.1", server.sockets[0].getsockname()[1], 10)
    await wire.start_tls(authority.trust(), "127.0.0.1", 10)
    with pytest.raises(WireBroken, match="timeout"):
        await write_for_ever(wire)
    server.close()


async def write_for_ever(wire: Wire) -> None:
    """Write until `flush` gives up; each one that does not must have left nothing behind."""
    while True:
        wire.write(b"x" * 10_000)
        await wire.flush(0.1)
        assert wire._socket is not None
        assert wire._socket.get_write_buffer_size() == 0


async def test_flush_returns_once_nothing_is_left_in_the_process() -> None:
    async with wire_to(b"220 hi\r\n") as wire:
        await wire.read_reply(10)
        for _ in range(50):
            wire.write(b"x" * 100_000)
            await wire.flush(10)
        transport = wire._transport
        assert transport is not None
        assert transport.get_write_buffer_size() == 0
