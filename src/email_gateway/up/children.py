"""Our own child processes: given their secrets through a pipe, ended with us, started again when they fall."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from email_gateway.errors import ConfigurationError, OperatorError
from email_gateway.observe import get_logger
from email_gateway.settings import environ_without
from email_gateway.up.signals import StopSignals

log = get_logger(__name__)

FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0
STEADY_AFTER_SECONDS = 30.0  # a child that lived this long starts again without a long wait
MAX_FALLS_AT_START = 5  # six seconds, with the waits between
GRACE_SECONDS = 30.0  # more than the worker's own, so that it is the worker that gives up first
STANDARD_ERROR = 2
EX_CONFIG = 78  # sysexits.h


@dataclass(frozen=True, slots=True)
class Role:
    """What a child is to do: arguments of the command line, settings it is handed, sockets it inherits.

    `handed` goes through a pipe, never into the environment or the arguments, which others can read.
    """

    name: str
    arguments: tuple[str, ...]
    handed: Mapping[str, str] = field(repr=False)
    sockets: tuple[int, ...] = ()


class Child:
    """One process that is to run all the time."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.falls = 0
        self._started_at = 0.0
        self._due_at = 0.0

    def __repr__(self) -> str:
        return f"Child({self.role.name}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def due_in_seconds(self) -> float | None:
        """How long until a fallen child is started again; None while it runs."""
        return None if self._process else max(0.0, self._due_at - time.monotonic())

    def tend(self) -> None:
        """Notice that the child has fallen, and start it when it is due."""
        now = time.monotonic()
        if self._process is not None and (code := self._process.poll()) is not None:
            self._fell(code, now)
        if self._process is None and now >= self._due_at:
            self._process = _spawn(self.role)
            self._started_at = now

    def end(self, how: signal.Signals) -> None:
        """Send the signal to a child that runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _fell(self, code: int, now: float) -> None:
        if now - self._started_at >= STEADY_AFTER_SECONDS:
            self.falls = 0
        wait = min(FIRST_WAIT_SECONDS * 2**self.falls, LONGEST_WAIT_SECONDS)
        log.warning("process_fell", process=self.role.name, code=code, retry_in_seconds=wait)
        self._process, self.exit_code = None, code
        self.falls += 1
        self._due_at = now + wait


def end_all(children: Sequence[Child], signals: StopSignals) -> None:
    """Let every child finish what it began; kill what is left after the grace, or at one more request to stop."""
    for child in children:
        child.end(signal.SIGTERM)
    asked, deadline = signals.requests, time.monotonic() + GRACE_SECONDS
    while not all(child.has_ended() for child in children):
        signals.wait(min(0.5, deadline - time.monotonic()))
        if signals.requests > asked or time.monotonic() >= deadline:
            break
    for child in children:
        child.end(signal.SIGKILL)
    while not all(child.has_ended() for child in children):
        signals.wait(0.1)


def require_startable(children: Iterable[Child]) -> None:
    """Raise ConfigurationError when a child found that it can never start, OperatorError when it fell again and again.

    It has said why on standard error.
    """
    for child in children:
        if child.exit_code == EX_CONFIG:
            raise ConfigurationError(f"the {child.role.name} process cannot start: its reason stands above")
        if child.falls >= MAX_FALLS_AT_START:
            raise OperatorError(f"the {child.role.name} process does not start: its reason stands above")


def next_due(children: Iterable[Child], at_most: float) -> float:
    """Return the seconds until a fallen child is to be started again, or `at_most`."""
    return min((due for child in children if (due := child.due_in_seconds) is not None), default=at_most)


def _spawn(role: Role) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own: Ctrl-C is for us, who end it in order.

    It asks the kernel for its own death with ours, and checks the pid it is told against its
    parent's. Call it on the main thread: that request follows the thread that forked.
    """
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as told:  # noqa: PTH123  # a descriptor has no path
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "email_gateway.cli", *role.arguments, "--handed-fd", str(reading)],
                env=environ_without(role.handed),
                stdin=subprocess.DEVNULL,
                stdout=STANDARD_ERROR,  # standard output is ours: `--json` promises one line
                pass_fds=(reading, *role.sockets),
                start_new_session=True,
            )
        finally:
            os.close(reading)
        # A child that died at once has closed the pipe; `tend` will see it.
        with contextlib.suppress(BrokenPipeError):
            json.dump({"parent": os.getpid(), "settings": dict(role.handed)}, told)
            told.flush()
    return process
