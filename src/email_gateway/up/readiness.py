"""Asking the api whether it is ready, without missing a signal meanwhile."""

import http.client
import json
from typing import cast

from email_gateway.up.signals import StopSignals

PATH = "/v1/health/readyz"
# While the children still start, their socket takes the question and nobody answers it yet.
PATIENCE_SECONDS = 2.0


class Readiness:
    """One question at a time to whoever serves `host` and `port`."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._asked: http.client.HTTPConnection | None = None

    def ask(self, signals: StopSignals, seconds: float) -> bool:
        """Return whether the api said that it is ready; False when nothing came within `seconds`.

        The question stays asked until it is answered, or its connection breaks.
        """
        try:
            if self._asked is None:
                self._asked = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_SECONDS)
                self._asked.request("GET", PATH)
            if not signals.wait(seconds, self._asked.sock):
                return False
            answer = self._asked.getresponse()
            is_ready = answer.status == 200 and _is_ready(answer.read())
        except (OSError, http.client.HTTPException):
            is_ready = False
        self.close()
        return is_ready

    def close(self) -> None:
        """Drop a question that was not answered."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None


def _is_ready(body: bytes) -> bool:
    """Whether mail is accepted: a degraded gateway accepts it."""
    try:
        status = cast("dict[str, object]", json.loads(body)).get("status")
    except (ValueError, AttributeError):
        return False
    return status in ("healthy", "degraded")
