"""What is known about each secret besides its value: how old, how the last fetch went."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

from email_gateway.observe import SECRET_AGE, SECRET_ALERT, SECRET_REFRESHES, SECRET_STALE, SECRETS_LIFETIME
from email_gateway.secrets.failures import Failure, FetchFailed
from email_gateway.secrets.secret import SECRETS


class SecretStatus(TypedDict):
    """What an operator may see of one secret; `version_id` is None where an optional one is absent."""

    version_id: str | None
    age_seconds: float
    stale: bool
    last_error: str | None
    last_error_code: str | None
    next_refresh_seconds: float | None


@dataclass(slots=True)
class Standing:
    """One secret's standing. `confirmed_at` is the moment of the source's last good answer."""

    confirmed_at: float
    failed: FetchFailed | None = field(default=None)


class Standings:
    """The standing of every secret, and the metrics made of it.

    `lifetime` is how long a good answer counts, in seconds; None is for ever, for a source that
    cannot change.
    """

    def __init__(self, monotonic: Callable[[], float], lifetime: float | None) -> None:
        self._monotonic = monotonic
        self._lifetime = lifetime
        SECRETS_LIFETIME.set(math.inf if lifetime is None else lifetime)
        self._each: dict[str, Standing] = {}

    def confirm(self, name: str, *, is_held: bool) -> None:
        """Note a good answer: a value, or that an optional secret is not there."""
        if name not in self._each:
            self._show(name)
        self._each[name] = Standing(self._monotonic())
        SECRET_REFRESHES.labels(name=name, result="ok" if is_held else "absent").inc()

    def fail(self, name: str, failed: FetchFailed) -> None:
        """Note a failed fetch; the age goes on."""
        SECRET_REFRESHES.labels(name=name, result=failed.failure).inc()
        if name in self._each:
            self._each[name].failed = failed

    def age(self, name: str) -> float:
        return self._monotonic() - self._each[name].confirmed_at

    def is_stale(self, name: str) -> bool:
        return self._lifetime is not None and self.age(name) > self._lifetime

    def is_alerting(self, name: str) -> bool:
        """True while somebody must look: stale, or a failure that does not pass by itself."""
        failed = self._each[name].failed
        return self.is_stale(name) or (failed is not None and not failed.failure.is_passing)

    def failure(self, name: str) -> Failure | None:
        failed = self._each[name].failed
        return failed.failure if failed else None

    @property
    def is_any_stale(self) -> bool:
        return any(self.is_stale(name) for name in self._each)

    def status(self, name: str, version_id: str | None, next_refresh_seconds: float | None) -> SecretStatus:
        failed = self._each[name].failed
        return SecretStatus(
            version_id=version_id,
            age_seconds=round(self.age(name), 3),
            stale=self.is_stale(name),
            last_error=failed.failure.value if failed else None,
            last_error_code=failed.code if failed else None,
            next_refresh_seconds=next_refresh_seconds,
        )

    def _show(self, name: str) -> None:
        # Computed when scraped: an age that only moves on refresh would stand still in an outage.
        SECRET_AGE.labels(name=name).set_function(lambda: self.age(name))
        SECRET_ALERT.labels(name=name).set_function(lambda: float(self.is_alerting(name)))
        SECRET_STALE.labels(name=name).set_function(lambda: float(self.is_stale(name)))
        for result in (*Failure, "ok", "absent"):
            # From zero on: a counter that begins at one shows Prometheus no increase.
            SECRET_REFRESHES.labels(name=name, result=result)

    def close(self) -> None:
        """Take the ages out of the metrics."""
        for known in SECRETS:
            if known.name in self._each:
                SECRET_AGE.remove(known.name)
                SECRET_ALERT.remove(known.name)
                SECRET_STALE.remove(known.name)
