"""A shell that stays open while a page is followed: its variables, its folder and what it started remain."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS = 60.0
ENDED_WITHIN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command left: its exit code, and what it said on both outputs, as a terminal shows them."""

    code: int
    text: str


class PageShell:
    """Runs commands one after another, as somebody who types them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, command: str) -> Printed:
        """Run a command to its end; what it put into the background goes on.

        One that takes longer than a minute ends the shell, and this raises AssertionError.
        """
        too_long = threading.Timer(COMMAND_SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        too_long.start()
        try:
            return self._run(command)
        finally:
            too_long.cancel()

    def _run(self, command: str) -> Printed:
        assert self._process.stdin
        assert self._process.stdout
        mark = f"end-of-command-{uuid.uuid4().hex}"
        # The shell reads its commands where theirs would read: they get an empty input.
        self._process.stdin.write(f'{{ {command}\n}} </dev/null\nprintf "\\n%s %s\\n" {mark} "$?"\n')
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(mark):
                return Printed(int(line.split()[1]), "".join(said)[:-1])
            said.append(line)
        raise AssertionError(f"the shell ended in: {command}\n{''.join(said)}")


@contextlib.contextmanager
def page_shell(folder: Path, environ: Mapping[str, str]) -> Iterator[PageShell]:
    """Open a shell in `folder`; at the end everything that it started is ended."""
    bash = shutil.which("bash")
    assert bash, "the pages are written for bash"
    process = subprocess.Popen(
        [bash, "--noprofile", "--norc"],
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # one group, that can be ended as a whole
    )
    try:
        yield PageShell(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        _await_end(process.pid)


def _await_end(group: int) -> None:
    """Wait until nobody of the group is left: what it started still uses the database."""
    deadline = time.monotonic() + ENDED_WITHIN_SECONDS
    while _lives(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.05)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
