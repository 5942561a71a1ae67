"""The audit trail: who did what and why, append-only, and never any personal data."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("audit")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act of an operator, or of an API key that searched for a person."""

    audit_id: UUID
    at: datetime
    actor: str
    action: str
    tenant_id: UUID | None
    subject: str | None
    reason: str | None


async def add_audit(
    db: Queries,
    *,
    actor: str,
    action: str,
    tenant_id: UUID | None = None,
    subject: str | None = None,
    reason: str | None = None,
) -> None:
    """Record an act; pass the transaction of the act itself, so that neither stands alone.

    `subject` names a thing by its id, never a person or an address.
    """
    await db.execute(SQL.add_audit, actor, action, tenant_id, subject, reason)


async def list_audit(db: Queries, *, limit: int = 50, before: datetime | None = None) -> list[AuditEntry]:
    """Return the newest acts first, those before a moment when one is given."""
    return [AuditEntry(*row) for row in await db.fetch(SQL.list_audit, before, limit)]
