"""Which admin keys open what: the current one, those before it until their deadline, and a staged one a little."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from email_gateway.secrets.secret import Secret

# How long the key before the current one opens when the database cannot say.
OVERLAP_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when, in seconds from now, a version is accepted, and until when as staged only."""

    accepted_seconds: float = 0.0
    staged_seconds: float = 0.0


@dataclass(slots=True)
class _Former:
    digest: bytes = field(repr=False)
    accepted_until: float = 0.0
    staged_until: float = 0.0


class AdminKeys:
    """Digests of the accepted admin keys; compared in time that does not depend on how much agrees."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._current: tuple[str, bytes] | None = None
        self._former: dict[str, _Former] = {}

    def __repr__(self) -> str:
        return f"AdminKeys(former={len(self._former)})"

    @property
    def current_version(self) -> str | None:
        """Return the VersionId of the current key."""
        return self._current[0] if self._current else None

    def replace(self, secret: Secret | None) -> None:
        """Make this the current key; the one before opens for ten minutes, unless `settle` says otherwise."""
        new = (secret.version_id, digest_of(secret.value)) if secret else None
        if self._current is not None and new is not None and new != self._current:
            version_id, digest = self._current
            self._former[version_id] = _Former(digest, self._monotonic() + OVERLAP_SECONDS)
        self._current = new
        if new is not None:
            self._former.pop(new[0], None)

    def unknown(self, versions: Mapping[str, Deadline]) -> list[str]:
        """Return which of these versions have to be fetched before `settle` can accept them."""
        return [version for version in versions if version != self.current_version and version not in self._former]

    def settle(self, versions: Mapping[str, Deadline], fetched: Mapping[str, Secret]) -> None:
        """Accept these versions besides the current one, and no others: what the database says goes."""
        digests = {version: former.digest for version, former in self._former.items()}
        digests |= {version: digest_of(secret.value) for version, secret in fetched.items()}
        now = self._monotonic()
        self._former = {
            version: _Former(digests[version], now + until.accepted_seconds, now + until.staged_seconds)
            for version, until in versions.items()
            if version in digests
        }

    def is_accepted(self, candidate: str) -> bool:
        """Tell whether this is the current key, or one before it within its time."""
        now = self._monotonic()
        digests = [former.digest for former in self._former.values() if now < former.accepted_until]
        return _is_among(candidate, [*digests, *([self._current[1]] if self._current else [])])

    def is_staged(self, candidate: str) -> bool:
        """Tell whether this is a key that may be tried before it becomes current."""
        now = self._monotonic()
        return _is_among(candidate, [former.digest for former in self._former.values() if now < former.staged_until])


def digest_of(key: str) -> bytes:
    """Return what keys are compared by: of one length, whatever was sent."""
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def _is_among(candidate: str, accepted: list[bytes]) -> bool:
    digest = digest_of(candidate)
    matches = [hmac.compare_digest(digest, one) for one in accepted]  # all of them, whichever matches
    return any(matches)
