"""The fleet as a whole, in the metrics of every process: read from the database now and then.

Each process shows the same figures, so that they are seen whichever of them is asked and whoever is gone.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

from email_gateway.errors import DatabaseUnavailable
from email_gateway.observe import (
    DATA_KEYS_HELD,
    DEAD_LETTERS,
    DISAGREEING,
    FIGURES_AGE,
    PROCESSES,
    QUEUE_AGE,
    ROOT_KEYS,
    ROOT_KEYS_HELD,
    ROTATION,
    VERSION_AGE,
    get_logger,
)
from email_gateway.secrets.secret import MOST_AGE, SecretName
from email_gateway.store.database import Database
from email_gateway.store.figures import Figures, VersionAge, read_figures
from email_gateway.store.instances import StoredInstance
from email_gateway.vault.adoption import PENDING_LASTS
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

READ_EVERY = timedelta(seconds=30)
KINDS = ("api", "worker")
ROOT_STATES = ("pending", "active", "retiring", "retired")
# Those that the rotation function brings in; the others change by hand, in one step.
ROTATED = (SecretName.ENCRYPTION_KEY, SecretName.ADMIN_API_KEY)
# Secrets Manager begins a rotation somewhere in a window after the last day, and then it takes its time.
OVERDUE_AFTER = timedelta(days=1)


async def keep_figures(db: Database, keyring: Keyring, live_for: timedelta) -> None:
    """Read the figures of the fleet and show them in the metrics, until cancelled.

    While the database is away the last ones stay, and their age goes on.
    """
    read_at = -math.inf
    # Computed when asked for: an age that only moves when they are read would stand still in an outage.
    FIGURES_AGE.set_function(lambda: time.monotonic() - read_at)
    while True:
        try:
            show_figures(await read_figures(db, live_for), keyring)
            read_at = time.monotonic()
        except DatabaseUnavailable:
            pass  # their age shows it
        except Exception:
            # This task must outlive anything: without it the figures would stand still.
            log.exception("figures_not_read")
        await asyncio.sleep(READ_EVERY.total_seconds())


def show_figures(figures: Figures, keyring: Keyring) -> None:
    """Put the figures of the fleet, and which keys this process holds, into the metrics."""
    DEAD_LETTERS.set(figures.dead_letters)
    QUEUE_AGE.set(figures.queue_age.total_seconds())
    _show_rotations(figures)
    for state in ROOT_STATES:
        ROOT_KEYS.labels(state=state).set(sum(root.state == state for root in figures.roots))
    for kind in KINDS:
        PROCESSES.labels(kind=kind).set(sum(each.process == kind for each in figures.instances))
    active_root = next((root.root_id for root in figures.roots if root.state == "active"), None)
    DISAGREEING.set(count_disagreeing(figures.instances, figures.versions, active_root))
    ROOT_KEYS_HELD.set(len(keyring.roots.ids))
    for purpose, count in keyring.count_held().items():
        DATA_KEYS_HELD.labels(purpose=purpose.name.lower()).set(count)


def count_disagreeing(
    instances: Iterable[StoredInstance], versions: Mapping[str, VersionAge], active_root: bytes | None
) -> int:
    """Return how many processes hold another version or active root than the database has as current.

    A process holds no version of what its environment gave it, and disagrees with nobody about that.
    """
    return sum(
        each.standing.active_root != active_root
        or any(
            name in versions and versions[name].version_id != version_id
            for name, version_id in each.standing.secret_versions.items()
        )
        for each in instances
    )


def _show_rotations(figures: Figures) -> None:
    for name, version in figures.versions.items():
        VERSION_AGE.labels(name=name).set(version.age.total_seconds())
    for name, most_age in MOST_AGE.items():
        known = figures.versions.get(name)
        is_overdue = known is not None and known.age > most_age + OVERDUE_AFTER
        ROTATION.labels(name=name, state="overdue").set(is_overdue)
    for name in ROTATED:
        begun_for = figures.begun_rotations.get(name)
        # After this long the gateway gives way to another rotation: this one was begun and did not end.
        is_given_up = begun_for is not None and begun_for >= PENDING_LASTS
        ROTATION.labels(name=name, state="in_progress").set(begun_for is not None and not is_given_up)
        ROTATION.labels(name=name, state="failed").set(is_given_up)
