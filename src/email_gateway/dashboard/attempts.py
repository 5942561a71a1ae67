"""How often a login may fail: counted per address, in this process's memory."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

MAX_FAILURES = 10
WINDOW_SECONDS = 600.0
MAX_ADDRESSES = 10_000


class LoginAttempts:
    """Counts failed logins of each client; after ten within ten minutes it has to wait.

    Each process counts for itself, so a fleet of N allows N times as many: the admin key is long
    and random, and the limit only keeps guessing from being free.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_seconds(self, client: str) -> int:
        """Return how long this client must wait before it may try again; 0 when it may now."""
        recent = self._recent(_network(client))
        return 0 if len(recent) < MAX_FAILURES else max(1, ceil(recent[0] + WINDOW_SECONDS - self._clock()))

    def add_failure(self, client: str) -> None:
        """Count one failed login."""
        network = _network(client)
        self._failures[network] = [*self._recent(network), self._clock()][-MAX_FAILURES:]
        self._failures.move_to_end(network)
        # The oldest are forgotten first: many addresses must not fill the memory.
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def _recent(self, network: str) -> list[float]:
        horizon = self._clock() - WINDOW_SECONDS
        return [at for at in self._failures.get(network, ()) if at > horizon]


def _network(client: str) -> str:
    """Name what one person is given: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
