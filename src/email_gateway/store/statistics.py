"""What the dashboard counts and lists across tenants: states, the rate of the last hour, recent messages."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.mail.deliveries import State
from email_gateway.store.database import Queries
from email_gateway.store.messages import shown_value
from email_gateway.store.queries import load

SQL = load("statistics")

# A filter by state looks at this many of each tenant's newest messages: a page must not read a table.
MESSAGES_LOOKED_THROUGH = 20_000
MOST_FOLDED = 10_000  # in one statement, so that no lock is held for long


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """A tenant's deliveries by state; `difference` is zero while contract C2 holds."""

    tenant_id: UUID
    name: str
    accepted: int
    by_state: dict[State, int]
    difference: int


@dataclass(frozen=True, slots=True)
class Minute:
    """How many messages were accepted and deliveries ended in one minute, by the database's clock."""

    at: datetime
    accepted: int
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class RecentMessage:
    """One row of the list; of a large message the summary stands for the content. `states` follow the envelope."""

    tenant_id: UUID
    tenant_name: str
    message_id: UUID
    created_at: datetime
    sender_domain: str
    size: int
    attachment_count: int
    sealed_content: bytes | None
    sealed_summary: bytes | None
    states: tuple[State, ...]

    @property
    def shown(self) -> tuple[str, UUID, bytes]:
        """What the list opens of it: (field, row, sealed value)."""
        return shown_value(self.message_id, self.sealed_content, self.sealed_summary)


@dataclass(frozen=True, slots=True)
class RecentFilter:
    """Which recent messages: older than `before`, of one tenant, with a delivery in `state`."""

    before: UUID | None = None
    tenant_id: UUID | None = None
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mail in the development inbox, known by everything but itself."""

    tenant_id: UUID
    tenant_name: str
    inbox_id: UUID
    message_id: UUID
    recipients: int
    size: int
    created_at: datetime


async def list_counts(db: Queries) -> list[TenantCounts]:
    """Return every tenant's counts, the busiest first, from running totals: exact, however many mails there are."""
    return [
        TenantCounts(
            tenant_id=row["tenant_id"],
            name=row["name"],
            accepted=row["accepted"],
            by_state={state: row[state.value] for state in State},
            difference=row["difference"],
        )
        for row in await db.fetch(SQL.list_counts)
    ]


async def list_recounts(db: Queries) -> dict[str, int]:
    """Count everything anew; return the tenants whose running totals are off, by name, with by how much.

    Reads whole tables: a proof for auditors, not for a page.
    """
    return {row["name"]: row["off_by"] for row in await db.fetch(SQL.list_recounts)}


async def fold_tallies(db: Queries) -> None:
    """Add the differences that transactions left to the running totals; what is counted does not change."""
    await db.execute(SQL.fold_tallies, MOST_FOLDED)


async def list_minutes(db: Queries) -> list[Minute]:
    """Return the last sixty minutes, oldest first; the last one is still running."""
    return [Minute(*row) for row in await db.fetch(SQL.list_minutes)]


async def list_recent(db: Queries, wanted: RecentFilter, *, limit: int) -> tuple[list[RecentMessage], bool]:
    """Return a page of messages across tenants, newest first, and whether there are older ones."""
    looked_through = limit + 1 if wanted.state is None else MESSAGES_LOOKED_THROUGH
    rows = await db.fetch(
        SQL.list_recent,
        limit + 1,
        wanted.before,
        wanted.tenant_id,
        wanted.state.value if wanted.state else None,
        looked_through,
    )
    page = []
    for row in rows[:limit]:
        facts, states = tuple(row)[:-1], row["states"] or ()
        page.append(RecentMessage(*facts, tuple(State(state) for state in states)))  # type: ignore[call-arg]
    return page, len(rows) > limit


async def find_tenant_name(db: Queries, tenant_id: UUID) -> str | None:
    """Return the tenant's name, or None."""
    row = await db.fetch_one(SQL.find_name, tenant_id)
    return row["name"] if row else None


async def list_arrivals(db: Queries, *, limit: int) -> list[Arrival]:
    """Return the newest mails of the development inbox across tenants, newest first."""
    return [Arrival(*row) for row in await db.fetch(SQL.list_arrivals, limit)]
