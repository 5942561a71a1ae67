"""What tenants may send and what they have sent, by running totals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("quotas")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an operator chose for a tenant: None is as the settings have it, 0 no limit.

    Requests a second of one API key, how many of them may come at once, and recipients a day and a month (UTC).
    """

    key_rate: int | None = None
    key_burst: int | None = None
    daily_quota: int | None = None
    monthly_quota: int | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """The recipients of what a tenant had accepted, and when the day and the month end, all by the database's clock."""

    today: int
    this_month: int
    day_ends_at: datetime
    month_ends_at: datetime
    at: datetime


async def find_allowances(db: Queries, tenant_ids: Sequence[UUID]) -> dict[UUID, Allowance]:
    """Return what was chosen for each of these tenants that there is."""
    rows = await db.fetch(SQL.find_allowances, tenant_ids)
    return {row["tenant_id"]: Allowance(*list(row)[1:]) for row in rows}


async def set_allowance(db: Queries, tenant_id: UUID, allowance: Allowance) -> None:
    """Choose for a tenant; processes follow within seconds."""
    await db.execute(
        SQL.set_allowance,
        tenant_id,
        allowance.key_rate,
        allowance.key_burst,
        allowance.daily_quota,
        allowance.monthly_quota,
    )


async def find_use(db: Queries, tenant_ids: Sequence[UUID]) -> dict[UUID, Use]:
    """Return what each of these tenants has used: a few rows each, and what is not folded yet."""
    return {row["tenant_id"]: Use(*list(row)[1:]) for row in await db.fetch(SQL.find_use, tenant_ids)}
