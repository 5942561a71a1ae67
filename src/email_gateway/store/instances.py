"""The processes of the fleet as they have written themselves down: what each holds and has followed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("instances")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a process holds: its roots, its secrets' VersionIds, and the generations it has followed.

    `failures` are the classes of the last failed fetches, by the secret's name. No value is here.
    """

    roots_held: Sequence[bytes]
    active_root: bytes | None
    secrets_generation: int
    keys_generation: int
    secret_versions: Mapping[str, str]
    failures: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """A process, who it is and when it was last seen."""

    instance: UUID
    process: str
    host: str
    pid: int
    release: str
    standing: Standing
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes: a process's own id, and what an operator knows it by."""

    instance: UUID
    process: str
    host: str
    pid: int
    release: str


async def record_instance(db: Queries, who: Identity, standing: Standing) -> None:
    """Write down that this process lives, and what it holds."""
    await db.execute(
        SQL.record_instance,
        who.instance,
        who.process,
        who.host,
        who.pid,
        who.release,
        list(standing.roots_held),
        standing.active_root,
        standing.secrets_generation,
        standing.keys_generation,
        json.dumps(dict(standing.secret_versions)),
        json.dumps(dict(standing.failures)),
    )


async def forget_instance(db: Queries, instance: UUID) -> None:
    """Forget a process that ends in order."""
    await db.execute(SQL.forget_instance, instance)


async def count_instances(db: Queries, process: str, seen_within: timedelta) -> int:
    """Return how many processes of a kind (api, worker) were seen lately."""
    row = await db.fetch_one(SQL.count_instances, process, seen_within)
    return int(row["count"]) if row else 0


async def list_instances(db: Queries, seen_within: timedelta) -> list[StoredInstance]:
    """Return the processes seen lately, api before worker."""
    found = []
    for row in await db.fetch(SQL.list_instances, seen_within):
        instance, process, host, pid, release, roots, active, secrets, keys, versions, failures, seen_at = row
        standing = Standing(roots, active, secrets, keys, json.loads(versions), json.loads(failures))
        found.append(StoredInstance(instance, process, host, pid, release, standing, seen_at))
    return found
