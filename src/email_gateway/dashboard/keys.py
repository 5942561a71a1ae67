"""The page of secrets and keys: which versions serve and since when, who holds them, and how a rotation goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.dashboard.key_findings import age_of, list_findings
from email_gateway.dashboard.key_pictures import draw_lives, draw_rotation
from email_gateway.dashboard.rendering import fragment
from email_gateway.dashboard.visits import Visit, guarded
from email_gateway.fleet import Acknowledgement
from email_gateway.secrets.secret import FROM_ENVIRONMENT, MOST_AGE, SECRETS, SecretName
from email_gateway.secrets.standing import SecretStatus

CRITICAL = tuple(known.name for known in SECRETS if known.is_critical)
FIELD, INDEX = 1, 2  # purposes of data keys
WORDS = {"stale": "stale", "failed": "not read", "absent": "not set", "environment": "environment", "fine": "serves"}


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret as the process that answers holds it. `kind` is a key of WORDS; `share` of its allowed age is over."""

    name: SecretName
    kind: str
    version_id: str | None
    age: timedelta | None
    most_age: timedelta | None
    read: timedelta

    @property
    def word(self) -> str:
        return WORDS[self.kind]

    @property
    def share(self) -> float | None:
        return min(1.0, self.age / self.most_age) if self.age is not None and self.most_age else None

    @property
    def is_over(self) -> bool:
        return self.age is not None and self.most_age is not None and self.age > self.most_age


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process: the version of each secret that it holds, and whether that is the current one."""

    instance: Acknowledgement
    versions: tuple[tuple[str, bool], ...]
    has_active_root: bool


@guarded
async def show(visit: Visit) -> Response:
    """Show the page; live.js keeps it fresh."""
    return visit.page("keys.html", **await _read(visit))


@guarded
async def live(visit: Visit) -> Response:
    """Answer a poll with what the page shows now."""
    return fragment(visit.request, "_keys.html", **await _read(visit))


async def _read(visit: Visit) -> dict[str, Any]:
    snapshot = await visit.context.key_figures.read(visit.context.db)
    secrets = visit.context.secrets.status()
    # What nobody holds is no column: most gateways have no redis-url.
    held = {name for each in snapshot.instances for name in each.versions}
    columns = tuple(name for name in SecretName if name in CRITICAL or name in held)
    waits = [status["next_refresh_seconds"] for status in secrets.values()]
    return {
        "snapshot": snapshot,
        "findings": list_findings(snapshot, secrets),
        "secrets": tuple(_secret_row(snapshot, name, status) for name, status in secrets.items()),
        "can_change": visit.context.secrets.can_change,
        "next_refresh": next((timedelta(seconds=wait) for wait in waits if wait is not None), None),
        "columns": columns,
        "following": sum(not snapshot.has_followed(each) for each in snapshot.instances),
        "processes": tuple(_process_row(snapshot, each, columns) for each in snapshot.instances),
        "rotation": draw_rotation(snapshot),
        "roots": draw_lives(snapshot),
        "data_keys": _count_data_keys(snapshot.keys.keys),
    }


def _secret_row(snapshot: KeySnapshot, name: str, status: SecretStatus) -> SecretRow:
    if status["last_error"] is not None:
        kind = "failed"
    elif status["version_id"] is None:
        kind = "absent"
    elif status["stale"]:
        kind = "stale"
    else:
        kind = "environment" if status["version_id"] == FROM_ENVIRONMENT else "fine"
    known = SecretName(name)
    has_version = kind not in ("environment", "absent")
    return SecretRow(
        known,
        kind,
        version_id=status["version_id"] if has_version else None,
        age=age_of(snapshot, name, status),
        most_age=MOST_AGE.get(known),
        read=timedelta(seconds=status["age_seconds"]),
    )


def _process_row(snapshot: KeySnapshot, instance: Acknowledgement, columns: tuple[SecretName, ...]) -> ProcessRow:
    others = snapshot.holds_another(instance)
    versions = tuple((instance.versions.get(name, ""), name not in others) for name in columns)
    return ProcessRow(instance, versions, snapshot.has_active_root(instance))


def _count_data_keys(keys: Mapping[tuple[int, str], int]) -> dict[str, int]:
    """Return how many data keys there are, by what they do."""
    index = sum(count for (purpose, state), count in keys.items() if purpose == INDEX and state != "destroyed")
    return {
        "seal new values": keys.get((FIELD, "active"), 0),
        "open older values": keys.get((FIELD, "decrypt_only"), 0),
        "make blind indexes": index,
        "destroyed": sum(count for (_, state), count in keys.items() if state == "destroyed"),
    }
