"""What holds for every process of ours that has keys in its memory: nobody else reads it."""

import contextlib
import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_memory_private() -> None:
    """Write no core files, here and in every child, and let no other process of this user read our memory.

    The second half also closes /proc/PID/environ to all but root.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ask_kernel(PR_SET_DUMPABLE, 0)


def ask_kernel(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2)), where there is Linux to ask."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
