"""Several api processes on one port, for machines with more than one core."""

import socket
import time

from email_gateway.settings import Settings
from email_gateway.up.children import STEADY_AFTER_SECONDS, Child, Role, end_all, next_due, require_startable
from email_gateway.up.handing import secrets_of
from email_gateway.up.signals import StopSignals

LOOK_EVERY_SECONDS = 1.0


def api_roles(settings: Settings, listener: socket.socket, handed: dict[str, str]) -> list[Role]:
    """Return a role for each of the api's processes; they accept connections from the same socket."""
    descriptor = listener.fileno()
    arguments = ("api", "--listen-fd", str(descriptor))
    return [Role(f"api-{n + 1}", arguments, handed, sockets=(descriptor,)) for n in range(settings.api_processes)]


def keep_api_processes(settings: Settings, listener: socket.socket) -> None:
    """Run API_PROCESSES of them until a signal asks to stop; one that falls is started again. Main thread only.

    Raises ConfigurationError when one finds at the start that it never can, OperatorError when one keeps falling then.
    """
    with StopSignals() as signals:
        children = [Child(role) for role in api_roles(settings, listener, secrets_of(settings))]
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
