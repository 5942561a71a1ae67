"""A real `email-gateway up` in a home of its own, as the process that a person starts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.plugins.marks import session_watch

PATIENCE_SECONDS = 60.0
MAIL = {
    "from": "Billing <billing@example.com>",
    "to": "ana@example.net",
    "subject": "Your invoice",
    "text": "Hello Ana.",
    "recipient": {"tax_id": "529.982.247-25"},
}


@dataclass
class Up:
    """A running gateway: its process and what it told on standard output."""

    process: subprocess.Popen[str]
    told: dict[str, str]

    def children(self, containing: str = "") -> list[int]:
        """Return the pids of its child processes whose command line contains this."""
        return [pid for pid in children_of(self.process.pid) if containing in command_line(pid)]

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Make a request with the API key."""
        request = urllib.request.Request(
            f"{self.told['api_url']}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.told['api_key']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, json.load(answer)

    def send(self) -> str:
        """Send a mail and return its id."""
        status, answer = self.ask("/emails", MAIL)
        assert status == 202
        return str(answer["id"])

    def is_delivered(self, email_id: str) -> bool:
        """Return whether the mail has reached its recipient."""
        return bool(self.ask(f"/emails/{email_id}")[1]["last_event"] == "delivered")

    def states(self, email_id: str) -> list[str]:
        """Return where the mail stands with each recipient."""
        return [delivery["state"] for delivery in self.ask(f"/emails/{email_id}")[1]["deliveries"]]

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def fresh_home() -> Iterator[Path]:
    """A directory that the database's own user can enter: pytest's tmp_path is 0700."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-up-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "home"


def start(home: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start `up` with nothing in its environment but what is given; `said` reads its standard error."""
    with error_file(home).open("w") as errors:  # a pipe that nobody reads would fill, and stop it
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "email_gateway.cli", "up", "--home", str(home), *arguments],
            cwd=home.parent,  # no .env of ours
            env={"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", **environ},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def error_file(home: Path) -> Path:
    """Return where the standard error of this home's `up` goes."""
    return session_watch().folder / f"{home.parent.name}.log"


def said(home: Path) -> str:
    """Return what the last `up` of this home wrote on standard error."""
    return error_file(home).read_text()


@contextlib.contextmanager
def running_up(home: Path, *arguments: str, **environ: str) -> Iterator[Up]:
    """Start `up --json` on a free port, wait until it is ready, and leave nothing behind."""
    process = start(home, "--port", "0", "--json", *arguments, **environ)
    try:
        line = read_line(process)
        if not line:
            raise AssertionError(f"up did not start: {said(home)}")
        told = json.loads(line)
        session_watch().add("a secret of `up`", *secrets_of(home, told))
        yield Up(process, told)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)


def secrets_of(home: Path, told: dict[str, str]) -> list[str]:
    """List what no log may hold: the keys, the database's password, and whose mail it is."""
    password = urlsplit(told["database_url"]).password or ""
    kept = json.loads((home / "credentials.json").read_text()).values()
    logins = [file.read_text().strip() for file in (home / "postgres").glob("*password")]
    return [told["api_key"], told["admin_key"], password, *logins, *map(str, kept), "ana@example.net", "52998224725"]


def read_line(process: subprocess.Popen[str]) -> str:
    """Read the next line of standard output; nothing when the process ends, or is ended for its silence."""
    assert process.stdout
    watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline()
    finally:
        watchdog.cancel()


def eventually(is_so: Callable[[], bool]) -> bool:
    """Return whether something becomes true while we wait."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.02)
    return False


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    """Return a process's arguments; nothing when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
