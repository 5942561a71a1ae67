"""Connections are kept, shared one at a time, given up in time, and closed with a word."""

import asyncio
import time
from datetime import timedelta

import pytest

from email_gateway.delivery.pool import PoolLimits
from email_gateway.delivery.target import Timeouts
from email_gateway.mail.deliveries import Claims, Phase, Verdict
from tests.delivery.attempting import BRIEF, Recorder, outgoing, transport_to
from tests.smtp_servers import HANG, SmtpServer

pytestmark = pytest.mark.anyio


async def test_no_more_connections_are_opened_than_allowed() -> None:
    server = SmtpServer()
    async with server, transport_to(server, limits=PoolLimits(connections=3)) as transport:
        outcomes = await asyncio.gather(*(transport.send(outgoing(), Recorder()) for _ in range(30)))
        assert server.connections == 3
    assert {outcome.verdict for (outcome,) in outcomes} == {Verdict.DELIVERED}
    assert len(server.receipts) == 30


async def test_a_connection_is_given_up_after_its_share_of_messages() -> None:
    server = SmtpServer()
    async with server, transport_to(server, limits=PoolLimits(messages=2)) as transport:
        for _ in range(5):
            await transport.send(outgoing(), Recorder())
        assert server.connections == 3


async def test_an_idle_connection_is_closed_with_quit() -> None:
    server = SmtpServer()
    limits = PoolLimits(idle=timedelta(milliseconds=20))
    async with server, transport_to(server, limits=limits) as transport:
        await transport.send(outgoing(), Recorder())
        await server.has_heard("QUIT")


async def test_close_says_quit_on_each_connection() -> None:
    server = SmtpServer()
    async with server:
        async with transport_to(server, limits=PoolLimits(connections=3)) as transport:
            await asyncio.gather(*(transport.send(outgoing(), Recorder()) for _ in range(9)))
        assert server.verbs().count("QUIT") == 3


async def test_a_quit_that_hangs_keeps_nobody_waiting_for_the_mail() -> None:
    server = SmtpServer(script={"QUIT": HANG})
    limits = PoolLimits(messages=1)
    async with server, transport_to(server, limits=limits, timeouts=Timeouts(quit=BRIEF)) as transport:
        outcomes = [await transport.send(outgoing(), Recorder()) for _ in range(3)]
    assert {outcome.verdict for (outcome,) in outcomes} == {Verdict.DELIVERED}
    assert len(server.receipts) == 3


async def test_who_finds_no_connection_free_is_held_at_the_end_of_the_attempt() -> None:
    is_holding, may_go = asyncio.Event(), asyncio.Event()

    async def hold(claims: Claims, phase: Phase) -> float:
        if phase is Phase.CONNECTED:
            is_holding.set()
            await may_go.wait()
        return time.monotonic() + 60

    server = SmtpServer()
    limits = PoolLimits(connections=1)
    async with server, transport_to(server, limits=limits, timeouts=Timeouts(attempt=BRIEF)) as transport:
        holder = asyncio.create_task(transport.send(outgoing(), hold))
        await is_holding.wait()
        (outcome,) = await transport.send(outgoing(), Recorder())
        may_go.set()
        await holder
    assert (outcome.verdict, outcome.reason) == (Verdict.HELD, "no_free_connection")


async def test_a_connection_that_is_returned_after_close_is_closed() -> None:
    is_holding, may_go = asyncio.Event(), asyncio.Event()

    async def hold(claims: Claims, phase: Phase) -> float:
        if phase is Phase.CONNECTED:
            is_holding.set()
            await may_go.wait()
        return time.monotonic() + 60

    server = SmtpServer()
    async with server, transport_to(server) as transport:
        holder = asyncio.create_task(transport.send(outgoing(), hold))
        await is_holding.wait()
        await transport.close()
        may_go.set()
        (outcome,) = await holder
        await transport.close()
        assert outcome.verdict is Verdict.DELIVERED
        assert server.verbs()[-1] == "QUIT"
