"""Secrets and keys as they may stand, for what draws them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.fleet import Acknowledgement
from email_gateway.store.key_walks import Counts, WalkStanding
from email_gateway.store.keys import StoredRoot
from email_gateway.store.secret_versions import CurrentVersion
from email_gateway.vault.status import KeyStatus, RootStatus

NOW = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
OLD, NEW = b"\xa1" * 16, b"\xb2" * 16
VERSION, NEWER_VERSION = "11111111-aaaa", "22222222-bbbb"
FOUR_KEYS = {(1, "active"): 2, (2, "active"): 2}


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def root(root_id: bytes, state: str, *, wraps: int = 4, **moments: datetime | None) -> RootStatus:
    """A root key; each moment that is not given is the one at which most such keys have it."""
    known: dict[str, Any] = {"created_at": ago(days=30), "activated_at": ago(days=30), **moments}
    for name in ("retired_at", "retiring_at", "verified_at"):
        known.setdefault(name, None)
    return RootStatus(StoredRoot(root_id, VERSION, VERSION, state, b"", **known), wraps)


def instance(process: str = "api", pid: int = 7, **changes: Any) -> Acknowledgement:
    """A process that follows."""
    known = {
        "instance": f"{process}-{pid}",
        "process": process,
        "host": "mail-1",
        "pid": pid,
        "release": "0.1.0",
        "acknowledged": True,
        "versions": {"encryption-key": VERSION},
        "failures": {},
        "active_root": OLD.hex(),
        **changes,
    }
    return Acknowledgement(**known)


def walk(share: float = 0.5, *, unreadable: int = 0, finished_at: datetime | None = None) -> WalkStanding:
    return WalkStanding("billing", "message", share, Counts(120, 0, unreadable), ago(minutes=1), finished_at)


def snapshot(
    *roots: RootStatus,
    instances: Sequence[Acknowledgement] = (),
    keys: Mapping[tuple[int, str], int] = FOUR_KEYS,
    walks: Sequence[WalkStanding] = (),
    current_since: datetime | None = None,
    asked_ago: timedelta = timedelta(days=1),
) -> KeySnapshot:
    """A fleet whose current encryption key is VERSION."""
    current = {"encryption-key": CurrentVersion(VERSION, current_since or ago(days=30))}
    return KeySnapshot(NOW, asked_ago, current, tuple(instances), KeyStatus(roots, dict(keys), ()), tuple(walks))
