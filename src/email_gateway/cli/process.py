"""What holds for every process of ours: memory stays private, and a child hears its parent's secrets and death."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping

from email_gateway.errors import OperatorError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_memory_private() -> None:
    """Write no core files, here and in every child, and let no other process of this user read our memory.

    Keys stand in memory. The second half also closes /proc/PID/environ to all but root.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def receive(handed_fd: int | None) -> Mapping[str, str]:
    """Return the settings that our parent handed us through this descriptor, and tie our life to its.

    Without a descriptor there is no such parent. Raises OperatorError when it has died meanwhile.
    """
    if handed_fd is None:
        return {}
    # SIGKILL: the embedded PostgreSQL ends with the parent too, so that nothing could be drained.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with open(handed_fd, encoding="utf-8") as told:  # noqa: PTH123  # a descriptor has no path
        text = told.read()
    try:
        message = json.loads(text)
        parent, settings = message["parent"], dict(message["settings"])
    except (ValueError, KeyError, TypeError):
        raise OperatorError("the parent process ended before it had handed over the settings") from None
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        raise OperatorError("the parent process is gone")
    return settings


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
