"""What holds for a child process of ours: it hears its parent's secrets and death."""

import json
import os
import signal
from collections.abc import Mapping

from email_gateway.errors import OperatorError
from email_gateway.private_memory import ask_kernel

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def receive(handed_fd: int | None) -> Mapping[str, str]:
    """Return the settings that our parent handed us through this descriptor, and tie our life to its.

    Without a descriptor there is no such parent. Raises OperatorError when it has died meanwhile.
    """
    if handed_fd is None:
        return {}
    # SIGKILL: the embedded PostgreSQL ends with the parent too, so that nothing could be drained.
    ask_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
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
