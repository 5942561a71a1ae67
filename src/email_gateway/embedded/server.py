"""The running server: started once per home, brought back after a crash, stopped in order."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from email_gateway.embedded.account import ROOT, server_account
from email_gateway.embedded.cluster import LOOPBACK, SUPERUSER, Cluster, is_free
from email_gateway.embedded.processes import POLL_SECONDS, end_leftovers, spawn, stop
from email_gateway.embedded.programs import programs_for
from email_gateway.errors import ConfigurationError, DatabaseUnavailable

# Replaying max_wal_size after a crash takes seconds; a slow disk gets this long.
READY_WITHIN = timedelta(seconds=120)
PORT_TRIES = 3
STATUS_LINE = 7  # of postmaster.pid, counted from 0: LOCK_FILE_LINE_PM_STATUS in PostgreSQL's miscadmin.h


class EmbeddedPostgres:
    """A PostgreSQL server on loopback whose data lies in `home`.

    Everything here blocks for up to seconds and belongs on the main thread: the server's life is tied
    to the thread that started it. It ends with this process, also when that is killed.
    """

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._lock: int | None = None
        self._cluster: Cluster | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def __repr__(self) -> str:
        return f"EmbeddedPostgres(home={str(self._home)!r}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """The superuser's URL, password included: never print or log it."""
        return self._url(SUPERUSER, self._started.password())

    def url_of(self, login: str) -> str:
        """Return the URL of another login, once the server has been told its password (`password_of`)."""
        return self._url(login, self.password_of(login))

    def password_of(self, login: str) -> str:
        """Return a password for this login that stays the same for this home; made on first use."""
        return self._started.password_of(login)

    def start(self) -> str:
        """Start the server, initialising its data on first use, and return the superuser's URL.

        A running server is left alone. Raises ConfigurationError when the home cannot be used or
        another process uses it, DatabaseUnavailable when the server does not come up.
        """
        if self.pid is not None:
            return self.url
        try:
            with _explaining(self._home):
                self._take_home()
                self._launch()
        except BaseException:
            self.stop()
            raise
        return self.url

    def ensure_running(self) -> bool:
        """Bring the server back, on the same port, if it has died; return whether it had.

        Raises DatabaseUnavailable when that fails, and may be called again: the home stays ours.
        """
        _ = self._started
        if self.pid is not None:
            return False
        with _explaining(self._home):
            self._launch(port=self._port)
        return True

    def stop(self) -> None:
        """Shut down (fast, then by force) and let go of the home. Does nothing when nothing runs."""
        if self._process is not None:
            stop(self._process)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _started(self) -> Cluster:
        if self._cluster is None or self._port is None:
            raise RuntimeError("the embedded PostgreSQL has not been started")
        return self._cluster

    def _url(self, login: str, password: str) -> str:
        return f"postgresql://{login}:{password}@{LOOPBACK}:{self._port}/postgres"

    def _take_home(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == ROOT else 0o700)
        self._home = self._home.resolve()
        folder = self._home / "postgres"
        folder.mkdir(exist_ok=True, mode=0o755)
        if self._lock is None:
            self._lock = _locked(folder / "lock", self._home)
        self._cluster = Cluster(self._home, server_account(folder / "data"))

    def _launch(self, port: int | None = None) -> None:
        cluster = self._cluster
        assert cluster is not None
        programs = programs_for(cluster.account, cluster.home)
        cluster.initialise(programs)
        end_leftovers(cluster.mark, cluster.account, cluster.pid_file)
        for _ in range(PORT_TRIES):
            chosen = port or cluster.choose_port()
            if self._came_up(cluster, programs, chosen):
                self._port = chosen
                cluster.remember_port(chosen)
                return
            if is_free(chosen):
                break  # the port was not the reason
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL did not start: {_last_words(cluster.log)} (its log: {cluster.log})"
        )

    def _came_up(self, cluster: Cluster, programs: Path, port: int) -> bool:
        log = cluster.open_log()
        try:
            process = spawn(cluster.command(programs, port), cluster.account, cluster.data, output=log, errors=log)
        finally:
            os.close(log)
        self._process = process
        deadline = time.monotonic() + READY_WITHIN.total_seconds()
        while process.poll() is None:
            if _is_ready(cluster.pid_file, process.pid):
                return True
            if time.monotonic() > deadline:
                stop(process)
            time.sleep(POLL_SECONDS)
        return False


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the postmaster `pid` says so in its pid file, as pg_ctl asks."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"


def _locked(path: Path, home: Path) -> int:
    """Take the home's lock, which the kernel frees when we die; ConfigurationError when it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_text().strip() or "unknown"
        os.close(descriptor)
        raise ConfigurationError(
            f"another email-gateway (process {holder}) already uses {home}: "
            "stop it, or choose another directory with --home"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _last_words(log: Path) -> str:
    """Return the log's last line that says why the server ended; such lines hold no values."""
    with contextlib.suppress(OSError):
        for line in reversed(log.read_text(errors="replace").splitlines()[-50:]):
            for level in ("FATAL:", "PANIC:"):
                if level in line:
                    return line.split(level, 1)[1].strip()
    return "it gave no reason"


@contextlib.contextmanager
def _explaining(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into words about the home."""
    try:
        yield
    except OSError as error:
        where = error.filename or home
        raise ConfigurationError(
            f"the embedded PostgreSQL cannot use {home}: {error.strerror} ({where}); "
            "choose another directory with --home, or set DATABASE_URL"
        ) from None
