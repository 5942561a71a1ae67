"""A person's wish to stop, and a child's end: the two things that `up` waits for."""

import contextlib
import select
import signal
import socket
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A stop was asked for while something ran that can be left half-way.

    A KeyboardInterrupt, since asyncio takes other exceptions for the failure of one of its callbacks.
    """


class StopSignals:
    """Counts the requests to stop (Ctrl-C, SIGTERM, a terminal that went away) while it is entered.

    Main thread only. SIGINT counts also where a shell started us in the background with it ignored;
    an ignored SIGHUP stays ignored, which is what nohup asks for.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._may_interrupt = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._waker_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._request)
        # Only a handler of Python's own wakes `wait`.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it came from signal.signal
        signal.set_wakeup_fd(self._waker_before)
        self._woken.close()
        self._waker.close()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise Interrupted out of the block when a stop is asked for, or has been; at its end at the latest."""
        self._may_interrupt = True
        try:
            if self.requests:
                raise Interrupted
            yield
        finally:
            self._may_interrupt = False
        if self.requests:  # raised where exceptions are lost, as in a finalizer
            raise Interrupted

    def wait(self, seconds: float, also: socket.socket | None = None) -> bool:
        """Sleep until a signal comes, `also` can be read, or the time is over; return whether it can."""
        watched = [self._woken] if also is None else [self._woken, also]
        readable, _, _ = select.select(watched, [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(64):
                pass
        return also in readable

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1
        if self._may_interrupt:
            self._may_interrupt = False  # once: what unwinds now must not be torn a second time
            raise Interrupted


def _look(number: int, frame: FrameType | None) -> None:
    """Do nothing: being called is the point."""
