"""What the dashboard counts and lists across tenants: states, the rate of the last hour, recent messages."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.mail.deliveries import State
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("statistics")

# A filter by state looks at this many of each tenant's newest messages: a page must not read a table.
MESSAGES_LOOKED_THROUGH = 20_000
# Larger contents are not read for a list; their row shows no address.
LARGEST_LISTED_CONTENT = 64 * 1024


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
    """One row of the list; `sealed_content` is None where it is large. `states` follow the envelope."""

    tenant_id: UUID
    tenant_name: str
    message_id: UUID
    created_at: datetime
    sender_domain: str
    size: int
    attachment_count: int
    sealed_content: bytes | None
    states: tuple[State, ...]


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
    """Return every tenant's counts, the busiest first. Reads whole tables: call it sparingly."""
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
        LARGEST_LISTED_CONTENT,
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
