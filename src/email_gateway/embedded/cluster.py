"""The data directory: made beside and renamed, with its password, its port, its log and its settings."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from email_gateway.embedded.account import Account
from email_gateway.embedded.processes import spawn, stop
from email_gateway.embedded.programs import MAJOR_VERSION
from email_gateway.errors import ConfigurationError, DatabaseUnavailable

SUPERUSER = "email_gateway"
LOOPBACK = "127.0.0.1"
INITDB_TIMEOUT_SECONDS = 120
LOG_LIMIT_BYTES = 10 * 1024 * 1024
# The working directory of the process that reads it. A process may stand in a directory whose
# parents it could not search, and Linux lets it name that directory so.
OWN_DIRECTORY = "/proc/self/cwd"
BEGUN = "initialising-"

# Given on the command line, so that a new release's settings reach old data directories too.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # one way in, and no path that may be longer than a socket's 107 bytes
    "max_connections": "100",
    # A walk over a table reads, writes and extends it; in 128 MB it waits for its own dirty pages to be written.
    "shared_buffers": "256MB",
    # Contract C1: what was answered 202 is on the disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",
    # A new segment of the log is filled with zeros and synced while every commit waits: 50 ms, twice for a mail of 29 MB.
    "wal_init_zero": "off",
    # What a large value dirties goes to the disk at once, and not all together when a checkpoint syncs it.
    "backend_flush_after": "256kB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # every statement is short
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log must hold no value. An ERROR's own text may quote one, and its DETAIL quotes whole rows;
    # the client gets both and decides. LOG, FATAL and PANIC speak of the server.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One home's PostgreSQL data and what belongs to it.

    HOME/postgres.log        0600  what the server says; no values
    HOME/postgres/data/      0700  owned by the server's account
    HOME/postgres/password   0600  the superuser's, random
    HOME/postgres/LOGIN.password  0600  another login's, random
    HOME/postgres/port             the last port, kept so that URLs stay valid
    HOME/postgres/lock             held by the running parent
    """

    home: Path
    account: Account

    @property
    def folder(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def mark(self) -> str:
        """A name that every process of this cluster carries in its title, and no other cluster's does."""
        status = self.data.stat()
        return f"email-gateway-{status.st_dev:x}-{status.st_ino:x}"

    def initialise(self, programs: Path) -> None:
        """Run initdb on first use. A killed one leaves only a directory beside, which the next removes.

        Raises ConfigurationError when the data is another major version's, or its password is gone.
        """
        for begun in self.folder.glob(f"{BEGUN}*"):
            shutil.rmtree(begun, ignore_errors=True)
        if not self.data.exists():
            self._make(programs)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR_VERSION:
            raise ConfigurationError(
                f"{self.data} was written by PostgreSQL {version}, and this release brings {MAJOR_VERSION}: "
                "dump it with the release that wrote it, then load it into a new --home"
            )
        self.password()

    def _make(self, programs: Path) -> None:
        self._write_private("password", secrets.token_urlsafe(32))
        beside = Path(tempfile.mkdtemp(prefix=BEGUN, dir=self.folder))
        if self.account.is_other:
            self._give_away(beside)
        self._run_initdb(programs, beside)
        beside.rename(self.data)
        _flush(self.folder)

    def _give_away(self, directory: Path) -> None:
        try:
            os.chown(directory, self.account.uid, self.account.gid)
        except PermissionError:
            raise ConfigurationError(
                f"PostgreSQL does not run as root, and root may not give files to the user {self.account.name} here "
                "(CAP_CHOWN is missing): run as a normal user, or set DATABASE_URL"
            ) from None

    def _run_initdb(self, programs: Path, beside: Path) -> None:
        password, told = os.pipe()
        try:
            os.write(told, self.password().encode() + b"\n")
            os.close(told)
            if self.account.is_other:
                os.fchown(password, self.account.uid, self.account.gid)  # else reopening it is denied
            process = spawn(
                [
                    programs / "initdb",
                    f"--pgdata={self._seen_by_server(beside)}",
                    f"--username={SUPERUSER}",
                    f"--pwfile=/dev/fd/{password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",  # the same order everywhere, whatever the system's libraries
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    "--no-instructions",
                ],
                self.account,
                beside,
                output=subprocess.DEVNULL,
                errors=subprocess.PIPE,
                inherited=(password,),
            )
        finally:
            os.close(password)
        try:
            _, said = process.communicate(timeout=INITDB_TIMEOUT_SECONDS)
        except BaseException as error:
            stop(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise DatabaseUnavailable(f"initdb did not finish within {INITDB_TIMEOUT_SECONDS} s") from None
            raise
        if process.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines() or [f"it exited with {process.returncode}"]
            raise ConfigurationError(f"PostgreSQL's data could not be initialised in {self.folder}: {lines[0]}")

    def password(self) -> str:
        """Return the superuser's password; ConfigurationError when its file is gone."""
        try:
            return (self.folder / "password").read_text().strip()
        except FileNotFoundError:
            raise ConfigurationError(
                f"{self.folder / 'password'} is missing: put it back from a backup, or start anew with another --home"
            ) from None

    def password_of(self, login: str) -> str:
        """Return the password kept for another login, made on first use."""
        file = self.folder / f"{login}.password"
        if not file.exists():
            self._write_private(file.name, secrets.token_urlsafe(32))
        return file.read_text().strip()

    def choose_port(self) -> int:
        """Return the port of last time when it is free, else any free one."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self.folder / "port").read_text())
            if is_free(port):
                return port
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            chosen: int = probe.getsockname()[1]
            return chosen

    def remember_port(self, port: int) -> None:
        """Keep `port` for the next start."""
        self._write_private("port", str(port))

    def command(self, programs: Path, port: int) -> list[str | Path]:
        """Return the server's command line."""
        settings = {**SETTINGS, "port": str(port), "cluster_name": self.mark}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [programs / "postgres", "-D", self._seen_by_server(self.data), *options]

    def open_log(self) -> int:
        """Open the log for appending, as a file descriptor that the caller closes; a large one is set aside."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _seen_by_server(self, directory: Path) -> str:
        return str(directory) if self.account.can_reach(directory) else OWN_DIRECTORY

    def _write_private(self, name: str, text: str) -> None:
        """Write a file of mode 0600 beside and rename it, so that it is never seen half-written."""
        descriptor, beside = tempfile.mkstemp(prefix=f"{name}.", dir=self.folder)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(self.folder / name)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as probe:
        # As PostgreSQL does: connections that have just closed do not keep a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
        return True


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
