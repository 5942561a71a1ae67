"""Several api processes on one port, for machines with more than one core."""

import socket
import time
from collections.abc import Sequence

from email_gateway.settings import Settings
from email_gateway.up.children import STEADY_AFTER_SECONDS, Child, Role, end_all, next_due, require_startable
from email_gateway.up.handing import secrets_of
from email_gateway.up.signals import StopSignals

LOOK_EVERY_SECONDS = 1.0


def api_roles(listeners: Sequence[socket.socket], handed: dict[str, str]) -> list[Role]:
    """Return a role for each of the api's processes, each with a socket of its own on the same port.

    We keep the sockets too: what connects while a process is down waits for its successor.
    """
    return [
        Role(f"api-{number}", ("api", "--listen-fd", str(fd)), handed, sockets=(fd,))
        for number, fd in enumerate((listener.fileno() for listener in listeners), start=1)
    ]


def keep_api_processes(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    """Run API_PROCESSES of them until a signal asks to stop; one that falls is started again. Main thread only.

    Raises ConfigurationError when one finds at the start that it never can, OperatorError when one keeps falling then.
    """
    with StopSignals() as signals:
        children = [Child(role) for role in api_roles(listeners, secrets_of(settings))]
        settled_at = time.monotonic() + STEADY_AFTER_SECONDS
        try:
            while not signals.requests:
                for child in children:
                    child.tend()
                if time.monotonic() < settled_at:  # later a fall is an accident, which a new start may mend
                    require_startable(children)
                signals.wait(next_due(children, LOOK_EVERY_SECONDS))
        finally:
            end_all(children, signals)
