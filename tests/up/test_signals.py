import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from email_gateway.up.signals import Interrupted, StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_of_asking_to_stop_counts(number: signal.Signals) -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        signals.wait(10)
        assert signals.requests == 1


def test_what_may_be_left_half_way_is_interrupted() -> None:
    with StopSignals() as signals, pytest.raises(Interrupted), signals.interrupting():
        os.kill(os.getpid(), signal.SIGINT)


def test_what_must_be_finished_is_not_interrupted() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requests == 1
        with pytest.raises(Interrupted), signals.interrupting():
            raise AssertionError("a stop that was asked for before must count")


def test_an_interruption_that_was_swallowed_comes_at_the_end() -> None:
    with StopSignals() as signals, pytest.raises(Interrupted), signals.interrupting(), contextlib.suppress(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_event_loop_is_interrupted_too() -> None:
    async def wait_long() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    with StopSignals() as signals, pytest.raises(Interrupted), signals.interrupting():
        asyncio.run(wait_long())


def test_a_second_request_does_not_tear_what_unwinds() -> None:
    with StopSignals() as signals:
        with pytest.raises(Interrupted), signals.interrupting():
            _ask_twice_to_stop()
        assert signals.requests == 2


def test_a_child_that_ends_wakes_whoever_waits() -> None:
    with StopSignals() as signals, subprocess.Popen([sys.executable, "-c", ""]) as child:
        signals.wait(30)
        child.wait()
        assert signals.requests == 0


def test_a_socket_that_can_be_read_wakes_and_is_named() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, StopSignals() as signals:
        assert not signals.wait(0, ours)
        theirs.send(b"x")
        assert signals.wait(10, ours)


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    with StopSignals():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.requests == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def _ask_twice_to_stop() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
