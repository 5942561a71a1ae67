"""Which versions of the secrets the fleet has seen, and until when a former admin key opens; never a value."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from email_gateway.store.database import Database, Queries
from email_gateway.store.queries import load

SQL = load("secret_versions")

# How long the admin key before the current one is accepted, and how long a staged one may be tried.
OVERLAP = timedelta(minutes=10)
STAGED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AcceptedVersion:
    """A version besides the current one: for how long it is accepted, and for how long as staged only."""

    version_id: str
    accepted_for: timedelta | None
    staged_for: timedelta | None


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The version of a secret that the fleet knows as current, and since when."""

    version_id: str
    current_since: datetime


async def record_current(db: Database, name: str, version_id: str) -> None:
    """Write down which version is current now; the one before is accepted for ten minutes more.

    Whoever comes later with the same news changes nothing. A version that was revoked stays so.
    """
    row = await db.fetch_one(SQL.is_current, name, version_id)
    if row and row["found"]:
        return
    async with db.transaction() as transaction:
        await transaction.execute(SQL.lock_versions)
        await transaction.execute(SQL.demote_current, name, version_id, OVERLAP)
        await transaction.execute(SQL.make_current, name, version_id)


async def revoke_former(db: Queries, name: str, current_version_id: str) -> list[str]:
    """End every version but the current one, for good, and return their ids."""
    return [row["version_id"] for row in await db.fetch(SQL.revoke_former, name, current_version_id)]


async def stage_version(db: Queries, name: str, version_id: str) -> None:
    """Let a version be tried for one hour before it becomes current."""
    await db.execute(SQL.stage_version, name, version_id, STAGED_FOR)


async def list_accepted(db: Queries, name: str) -> list[AcceptedVersion]:
    """Return the versions besides the current one that open something now."""
    return [AcceptedVersion(*row) for row in await db.fetch(SQL.list_accepted, name)]


async def list_current(db: Queries) -> dict[str, CurrentVersion]:
    """Return the current version of each secret by name."""
    return {
        row["name"]: CurrentVersion(row["version_id"], row["current_since"]) for row in await db.fetch(SQL.list_current)
    }
