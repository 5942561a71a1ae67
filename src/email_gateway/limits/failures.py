"""Failures of each client within a minute, counted in this process: constant work, bounded memory."""

import time
from collections import OrderedDict, deque
from math import ceil

MAX_CLIENTS = 10_000


class RecentFailures:
    """How often each client failed within the last `window_seconds`; `most` of them, and it has to wait.

    Whoever failed longest ago is forgotten first when there are too many clients: one that keeps
    failing stays.
    """

    def __init__(self, most: int, window_seconds: float) -> None:
        self._most = most
        self._window = window_seconds
        self._failed_at: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed_at)

    def wait_seconds(self, client: str) -> int:
        """Return after how many seconds the client may fail again; 0 for now."""
        failed_at = self._failed_at.get(client)
        if failed_at is None or len(failed_at) < self._most:
            return 0
        return max(0, ceil(failed_at[0] + self._window - time.monotonic()))

    def add(self, client: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        self._failed_at.setdefault(client, deque(maxlen=self._most)).append(now)
        self._failed_at.move_to_end(client)
        self._forget(now - self._window)

    def _forget(self, before: float) -> None:
        while self._failed_at:
            oldest = next(iter(self._failed_at))
            if len(self._failed_at) <= MAX_CLIENTS and self._failed_at[oldest][-1] > before:
                return
            del self._failed_at[oldest]
