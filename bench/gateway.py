"""The gateway as an operator runs it in production: its own PostgreSQL, api processes, a worker."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.logins import LOGINS, MIGRATOR, PROCESS, prepare_logins
from email_gateway.store.migrations import migrate

READY_SECONDS = 30.0
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gateway:
    """A running gateway in its parts; each can be started, killed and started again.

    With `logs`, what each process says goes to a file of its own in that folder.
    """

    def __init__(
        self, home: Path, postgres: EmbeddedPostgres, settings: dict[str, str], logs: Path | None = None
    ) -> None:
        self.home = home
        self.postgres = postgres
        self.port = free_port()
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ},
            "DATABASE_URL": postgres.url_of(PROCESS),
            "USE_SECRETS_MANAGER": "false",
            "ENCRYPTION_KEY": secrets.token_urlsafe(32),
            "ENCRYPTION_SALT": secrets.token_urlsafe(32),
            "ADMIN_API_KEY": secrets.token_urlsafe(32),
            "API_PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        self.api_key = ""
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def secrets(self) -> dict[str, str]:
        """Everything this gateway must keep to itself, by what it is."""
        given = {
            "the superuser's password": urllib.parse.urlsplit(self.postgres.url).password,
            "the owner's password": self.postgres.password_of(MIGRATOR),
            "the database password": self.postgres.password_of(PROCESS),
            "the smarthost's password": urllib.parse.urlsplit(self.environ.get("SMTP_URL", "")).password,
            "an API key": self.api_key,
        }
        named = ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")
        return {name: value for name, value in given.items() if value} | {name: self.environ[name] for name in named}

    def prepare(self) -> None:
        """Migrate the database as its owner and make a tenant with its key as a process would."""
        passwords = {login: self.postgres.password_of(login) for login in LOGINS}
        _run_apart(prepare_logins(self.postgres.url, passwords))
        _run_apart(migrate(self.postgres.url_of(MIGRATOR)))
        self.api_key = json.loads(self.command("tenants", "create", "bench", "--json"))["api_key"]

    def command(self, *arguments: str) -> bytes:
        """Run one of the gateway's commands to its end and return what it printed."""
        with self._log_of("command") as log:
            run = subprocess.run(
                [*COMMAND, *arguments], env=self.environ, check=True, stdout=subprocess.PIPE, stderr=log
            )
        return run.stdout

    def start(self, part: str, **settings: str) -> None:
        """Start `api` or `worker`, with other settings where given; the api is awaited until it is ready.

        What follows a dash tells several of one part apart: `worker-2` is a second worker.
        """
        with self._log_of(part) as log:
            process = subprocess.Popen(
                [*COMMAND, part.partition("-")[0]],
                env={**self.environ, **settings},
                stdout=log or subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
        self._processes[part] = process
        if part == "api":
            await_ready(f"{self.url}/health/readyz", process)

    def kill(self, part: str) -> None:
        """End a part as a power cut would."""
        process = self._processes.pop(part)
        process.kill()
        process.wait()

    def pid_of(self, part: str) -> int:
        """Return the process id of a part that was started."""
        return self._processes[part].pid

    def tend(self) -> None:
        """Start again every part that ended by itself, as a supervisor does: no database, no start."""
        for part, process in list(self._processes.items()):
            if process.poll() is not None:
                self.start(part)

    def kill_postgres(self) -> None:
        """End PostgreSQL as a power cut would, and bring it back as `email-gateway up` does."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGKILL)  # its children notice by themselves
        while not self.postgres.ensure_running():
            time.sleep(0.01)

    def end(self, part: str) -> int:
        """End a part kindly and return its exit code."""
        process = self._processes.pop(part)
        end(process)
        return process.returncode

    def stop(self) -> None:
        """End every part, kindly."""
        for part in list(self._processes):
            self.end(part)

    def _log_of(self, part: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        if self._logs is None:
            return contextlib.nullcontext()  # errors reach the terminal
        return tempfile.NamedTemporaryFile(prefix=f"{part}-", suffix=".log", dir=self._logs, delete=False)


COMMAND = (sys.executable, "-m", "email_gateway.cli")


@contextlib.contextmanager
def running(*parts: str, **settings: str) -> Iterator[Gateway]:
    """Start PostgreSQL and these parts of the gateway; stop all of it at the end."""
    with running_logged(None, *parts, **settings) as gateway:
        yield gateway


@contextlib.contextmanager
def running_logged(logs: Path | None, /, *parts: str, **settings: str) -> Iterator[Gateway]:
    """As `running`; what each process says, PostgreSQL too, goes to files in the folder `logs`."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # the database's own user must be able to enter
        postgres = EmbeddedPostgres(home)
        postgres.start()
        gateway = Gateway(home, postgres, settings, logs)
        try:
            gateway.prepare()
            for part in parts:
                gateway.start(part)
            yield gateway
        finally:
            gateway.stop()
            postgres.stop()
            if logs is not None:
                shutil.copy(home / "postgres.log", logs / f"postgres-{home.name}.log")


def _run_apart(work: Coroutine[Any, Any, object]) -> None:
    """Run this to its end in a loop of its own: the caller may be inside one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


def await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the api answers that it is ready, or raise when it died."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the api ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), HTTP.open(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError("the api was not ready in time")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process we started, kindly at first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def load(gateway: Gateway, *, count: int, batch: int, connections: int) -> Iterator[subprocess.Popen[str]]:
    """Prepare a load client in its own process; `go` starts its clock."""
    client = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin
    assert client.stdout
    plan = {
        "port": gateway.port,
        "api_key": gateway.api_key,
        "count": count,
        "batch": batch,
        "connections": connections,
    }
    client.stdin.write(json.dumps(plan))
    client.stdin.close()
    assert client.stdout.readline() == "ready\n"
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def result(client: subprocess.Popen[str]) -> float:
    """Wait for the load client and return the seconds it took; every answer must have been 202."""
    assert client.stdout
    answer = json.loads(client.stdout.readline())
    if set(answer["statuses"]) != {"202"}:
        raise RuntimeError(f"not every request was accepted: {answer['statuses']}")
    return float(answer["seconds"])
