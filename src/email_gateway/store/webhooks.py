"""Webhooks: where a tenant's events are sent, and with which secrets they are signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.errors import Conflict, NotFound
from email_gateway.mail.webhooks import kinds_of
from email_gateway.store.database import Queries
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("webhooks")

MAX_WEBHOOKS = 20
MOST_COUNTED = 10_000
# So long receivers have to take up a new secret.
OLD_SECRET_LASTS = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """A webhook as it is kept; endpoint and secrets are sealed for its id."""

    tenant_id: UUID
    webhook_id: UUID
    host: str
    sealed_endpoint: bytes
    sealed_secret: bytes
    sealed_old_secret: bytes | None
    old_secret_until: datetime | None
    events: tuple[str, ...]
    status: str
    disabled_by: str | None
    include_personal: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A webhook as an operator sees it: `waiting` deliveries, counted up to MOST_COUNTED, and how it does."""

    tenant: str
    tenant_id: UUID
    webhook_id: UUID
    host: str
    events: tuple[str, ...]
    status: str
    disabled_by: str | None
    failures: int
    failing_since: datetime | None
    next_try_at: datetime
    waiting: int
    last_attempt_at: datetime | None
    last_result: str | None


@dataclass(frozen=True, slots=True)
class SealedEndpoint:
    """An endpoint, and the host that names it to operators."""

    host: str
    sealed: bytes


async def add_webhook(
    db: Queries,
    tenant_id: UUID,
    webhook_id: UUID,
    endpoint: SealedEndpoint,
    sealed_secret: bytes,
    events: Sequence[str],
    *,
    include_personal: bool,
) -> None:
    """Store a new webhook; raises Conflict when the tenant has as many as it may."""
    chosen = (list(events), kinds_of(events), include_personal)
    arguments = (endpoint.host, endpoint.sealed, sealed_secret, *chosen, MAX_WEBHOOKS)
    if await db.fetch_one(SQL.add_webhook, tenant_id, webhook_id, *arguments) is None:
        raise Conflict(f"delete a webhook first: {MAX_WEBHOOKS} is as many as there may be")


async def get_webhook(db: Queries, tenant_id: UUID, webhook_id: UUID) -> StoredWebhook:
    """Return one webhook of the tenant; raises NotFound, also for another tenant's."""
    row = await db.fetch_one(SQL.get_webhook, tenant_id, webhook_id)
    if row is None:
        raise _not_found()
    return StoredWebhook(**{**row, "events": tuple(row["events"])})


async def list_webhooks(db: Queries, tenant_id: UUID, page: Page) -> tuple[list[StoredWebhook], bool]:
    """Return a page of the tenant's webhooks, newest first, and whether there are more."""
    sql = SQL.list_webhooks_after if page.before is None else SQL.list_webhooks_before
    cursor = page.after if page.before is None else page.before
    rows, has_more = page.cut(await db.fetch(sql, tenant_id, cursor, page.limit + 1))
    return [StoredWebhook(**{**row, "events": tuple(row["events"])}) for row in rows], has_more


async def update_webhook(
    db: Queries,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    endpoint: SealedEndpoint | None = None,
    events: Sequence[str] | None = None,
    status: str | None = None,
    include_personal: bool | None = None,
) -> None:
    """Change what is given of a webhook; raises NotFound."""
    host, sealed = (endpoint.host, endpoint.sealed) if endpoint else (None, None)
    chosen = (None, None) if events is None else (list(events), kinds_of(events))
    changes = (host, sealed, *chosen, status, include_personal)
    if await db.fetch_one(SQL.update_webhook, tenant_id, webhook_id, *changes) is None:
        raise _not_found()


async def rotate_secret(db: Queries, webhook: StoredWebhook, sealed: bytes, sealed_old: bytes) -> None:
    """Sign with another secret, and for a day with the one before as well; raises Conflict for a second one at a time."""
    arguments = (sealed, sealed_old, OLD_SECRET_LASTS, webhook.sealed_secret)
    if await db.fetch_one(SQL.rotate_secret, webhook.tenant_id, webhook.webhook_id, *arguments) is None:
        raise Conflict("the secret was changed meanwhile: read the webhook and try again")


async def delete_webhook(db: Queries, tenant_id: UUID, webhook_id: UUID) -> None:
    """Delete a webhook, with what was yet to be sent there; raises NotFound."""
    if await db.fetch_one(SQL.delete_webhook, tenant_id, webhook_id) is None:
        raise _not_found()


async def list_standings(db: Queries, webhook_id: UUID | None = None) -> list[Standing]:
    """Return every tenant's webhooks, or one, those that fail first."""
    rows = await db.fetch(SQL.list_standings, MOST_COUNTED, webhook_id)
    return [Standing(**{**row, "events": tuple(row["events"])}) for row in rows]


def _not_found() -> NotFound:
    return NotFound("no such webhook")
