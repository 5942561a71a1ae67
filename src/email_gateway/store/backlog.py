"""How far delivery is behind: what is due and not claimed yet."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("backlog")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries that a worker could take now, how long the oldest has waited, and when the next retry is due."""

    due: int
    oldest_due_for: timedelta | None
    next_due_at: datetime | None


async def read_backlog(db: Queries) -> Backlog:
    """Count what is due across tenants, by the database's clock."""
    row = await db.fetch_one(SQL.read_backlog)
    assert row is not None  # an aggregate returns one row
    return Backlog(*row)
