"""Starting PostgreSQL's processes so that they die with us, and ending those that an earlier run left."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

from email_gateway.embedded.account import Account
from email_gateway.errors import ConfigurationError, DatabaseUnavailable

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
POLL_SECONDS = 0.01
# What each signal means to a postmaster ("Shutting Down the Server" in PostgreSQL's manual), and how
# long we wait for it: a fast shutdown writes a checkpoint, an immediate one only ends the children.
FAST_SHUTDOWN, FAST_PATIENCE = signal.SIGINT, timedelta(seconds=20)
IMMEDIATE_SHUTDOWN, IMMEDIATE_PATIENCE = signal.SIGQUIT, timedelta(seconds=8)
KILL_PATIENCE = timedelta(seconds=5)

Stream = int | IO[bytes]


def spawn(
    command: Sequence[str | Path],
    account: Account,
    directory: Path,
    *,
    output: Stream,
    errors: Stream,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command` as `account` in `directory`, to be interrupted by the kernel when we die.

    Call it on the main thread: the kernel's signal follows the thread that forked, not the process.
    The child gets a session of its own (Ctrl-C is for us; we stop it in order) and none of our
    environment, which may hold secrets.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the embedded PostgreSQL must be started on the main thread")
    if sys.platform != "linux":
        raise ConfigurationError("the embedded PostgreSQL needs Linux: set DATABASE_URL to a PostgreSQL 15 or newer")
    libc, parent = ctypes.CDLL(None), os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, FAST_SHUTDOWN, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    other = account.is_other
    try:
        return subprocess.Popen(
            list(command),
            cwd=directory,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            pass_fds=inherited,
            start_new_session=True,
            umask=0o077,
            # After the change of user, which clears the signal; and before any thread of ours is
            # likely to hold a lock that the forked copy would wait for.
            preexec_fn=die_with_parent,  # noqa: PLW1509
            user=account.uid if other else None,
            group=account.gid if other else None,
            extra_groups=[] if other else None,
        )
    except PermissionError as error:
        raise ConfigurationError(
            f"the embedded PostgreSQL cannot be started as the user {account.name} ({error.strerror}): "
            "run as a normal user, or set DATABASE_URL"
        ) from None


def stop(process: subprocess.Popen[bytes]) -> None:
    """Shut the server down and reap it: fast, then immediately, then by force."""
    for how, patience in (
        (FAST_SHUTDOWN, FAST_PATIENCE),
        (IMMEDIATE_SHUTDOWN, IMMEDIATE_PATIENCE),
        (signal.SIGKILL, KILL_PATIENCE),
    ):
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience.total_seconds())
            return


def end_leftovers(mark: str, account: Account, pid_file: Path) -> None:
    """End the servers that a killed parent left on this data, then remove the `pid_file` they kept.

    The caller holds the home's lock, so whatever still carries `mark` belongs to nobody. A postmaster
    is let finish its fast shutdown. Backends whose postmaster was killed hold the shared memory until
    their query ends ("pre-existing shared memory block is still in use") and can finish nothing: they
    get the immediate shutdown at once. Without a process of ours the pid file is stale, also when it
    is empty or its number meanwhile belongs to a stranger or a zombie.
    """
    for how, patience in (
        (FAST_SHUTDOWN, FAST_PATIENCE),
        (IMMEDIATE_SHUTDOWN, IMMEDIATE_PATIENCE),
        (signal.SIGKILL, KILL_PATIENCE),
    ):
        left = _marked(mark, account)
        if how == FAST_SHUTDOWN:
            left &= {_pid_in(pid_file)}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        deadline = time.monotonic() + patience.total_seconds()
        while left & _marked(mark, account) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    if left := _marked(mark, account):
        raise DatabaseUnavailable(
            f"an earlier PostgreSQL still runs on {pid_file.parent} and does not end: "
            f"process {', '.join(map(str, sorted(left)))}"
        )
    pid_file.unlink(missing_ok=True)


def _marked(mark: str, account: Account) -> set[int]:
    """Find the processes of `account` whose title carries the cluster's name.

    Titles, since root in a container without CAP_SYS_PTRACE may not read the /proc/PID/exe and cwd
    of another user's process. A zombie has no title.
    """
    # As the postmaster's argument, and as its children show it ("postgres: NAME: checkpointer").
    ends = (f"cluster_name={mark}\0".encode(), f"postgres: {mark}: ".encode())
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it may end while we look
            title = (entry / "cmdline").read_bytes()
            if any(end in title for end in ends) and entry.stat().st_uid == account.uid:
                found.add(int(entry.name))
    return found


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
