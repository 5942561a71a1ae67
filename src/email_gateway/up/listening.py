"""The listening sockets of the api: one for each of its processes, all on one port."""

import errno
import socket

from email_gateway.errors import ConfigurationError, OperatorError

BACKLOG = 2048
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # recognised, not chosen


def listen_each(host: str, port: int, count: int) -> list[socket.socket]:
    """Return `count` listening sockets on one port, among which the kernel spreads connections.

    On one shared socket the process that wakes first accepts everything that waits, and the others
    idle. Raises as `listen` does.
    """
    first = listen(host, port)
    if count == 1:
        return [first]
    # Bound without SO_REUSEPORT it has shown that nobody else has the port: with it, another
    # gateway of this user would silently get a share of the connections.
    port = first.getsockname()[1]
    first.close()
    return [listen(host, port, is_shared=True) for _ in range(count)]


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises OperatorError when the port is taken, ConfigurationError when the address is not ours.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"API_HOST is not an address of this machine: {error.strerror}") from None
    try:
        # Connections of the last run that still close do not keep the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(error, host, port) from None
    return listener


def reach(listener: socket.socket) -> tuple[str, int]:
    """Return the host and port under which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    return ANY.get(host, host), port


def _refused(error: OSError, host: str, port: int) -> OperatorError:
    if error.errno == errno.EADDRINUSE:
        return OperatorError(
            f"port {port} on {host} is taken by another program: stop it, or choose another port with --port"
            " (0 takes a free one)"
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(f"port {port} needs privileges: choose one of 1024 or more with --port")
    return ConfigurationError(f"the API cannot listen on {host}, port {port}: {error.strerror}")
