"""Events on their way to callers' servers: claimed by endpoint, finished, replayed, forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.errors import NotFound
from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("webhook_deliveries")

KEPT_FOR = timedelta(days=30)
PRUNE_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """An endpoint that this worker alone sends to for the time of its lease; its values are sealed for its id."""

    tenant_id: UUID
    webhook_id: UUID
    token: UUID
    failures: int
    failing_since: datetime | None
    host: str
    sealed_endpoint: bytes
    sealed_secret: bytes
    sealed_old_secret: bytes | None
    include_personal: bool


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """What is to be sent: an event, and what there is to say of its message. Personal values come only where asked for.

    A test has neither event nor message, and the row of one that retention removed is gone as well.
    """

    delivery_id: UUID
    message_id: UUID
    kind: str
    happened_at: datetime
    attempts: int
    created_at: datetime
    now: datetime
    event_id: UUID | None
    recipient: int | None
    reason: str | None
    code: int | None
    enhanced: str | None
    sealed_reply: bytes | None
    message_created_at: datetime | None
    sealed_content: bytes | None
    sealed_summary: bytes | None
    tag_names: tuple[str, ...]
    tag_values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """What one attempt came to: pending with the `delay` until the next, delivered, or failed for good.

    `result` is a word; `status` is there where the server answered, with the beginning of what it said.
    """

    due: DueDelivery
    state: str
    delay: timedelta | None
    result: str
    status: int | None
    milliseconds: int
    sealed_answer: bytes | None


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery as operators see it; the answer's beginning is sealed for its id."""

    tenant_id: UUID
    message_id: UUID
    delivery_id: UUID
    kind: str
    state: str
    attempts: int
    happened_at: datetime
    attempted_at: datetime | None
    next_attempt_at: datetime
    result: str | None
    status: int | None
    milliseconds: int | None
    sealed_answer: bytes | None


async def claim_webhooks(
    db: Queries, *, limit: int, lease_for: timedelta, are_failing: bool = False
) -> list[ClaimedWebhook]:
    """Take up to `limit` endpoints for which something is due, of those that fail or of the others.

    Two workers never hold the same one.
    """
    return [ClaimedWebhook(*row) for row in await db.fetch(SQL.claim_webhooks, limit, lease_for, are_failing)]


async def list_due(db: Queries, webhook: ClaimedWebhook, limit: int) -> list[DueDelivery]:
    """Return what is due for an endpoint, oldest first and at most one delivery for each message."""
    arguments = (webhook.tenant_id, webhook.webhook_id, limit, webhook.include_personal)
    return [DueDelivery(*row) for row in await db.fetch(SQL.list_due, *arguments)]


async def finish_deliveries(
    db: Queries,
    webhook: ClaimedWebhook,
    sent: Sequence[Sent],
    *,
    is_success: bool,
    wait: timedelta,
    disable_after: timedelta,
) -> tuple[bool, bool]:
    """Write what was sent and let go of the endpoint; return whether it was still held, and whether it is disabled now.

    Without a success the endpoint is tried again after `wait`, and is disabled when it has failed for longer than
    `disable_after`.
    """
    row = await db.fetch_one(
        SQL.finish_deliveries,
        webhook.webhook_id,
        webhook.token,
        [one.due.message_id for one in sent],
        [one.due.delivery_id for one in sent],
        [one.state for one in sent],
        [one.delay for one in sent],
        [one.result for one in sent],
        [one.status for one in sent],
        [one.milliseconds for one in sent],
        is_success,
        wait,
        disable_after,
        [one.sealed_answer for one in sent],
        webhook.tenant_id,
    )
    assert row is not None  # it has no FROM
    return row["is_held"], row["is_disabled"]


async def release_webhook(db: Queries, webhook: ClaimedWebhook) -> None:
    """Let go of an endpoint that nothing was sent to."""
    await db.execute(SQL.release_webhook, webhook.webhook_id, webhook.token)


async def add_test(db: Queries, webhook_id: UUID) -> UUID:
    """Have a test sent; return its id, or raise NotFound when there is no such webhook, or it is disabled."""
    row = await db.fetch_one(SQL.add_test, webhook_id)
    if row is None:
        raise NotFound("no such webhook, or it is disabled")
    delivery_id: UUID = row["delivery_id"]
    return delivery_id


async def replay(
    db: Queries,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    delivery_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    failed_only: bool = False,
) -> int:
    """Send again what was sent or given up; return how many deliveries that is."""
    row = await db.fetch_one(SQL.replay, tenant_id, webhook_id, delivery_id, since, until, failed_only)
    assert row is not None  # an aggregate returns one row
    return int(row["number"])


async def list_deliveries(
    db: Queries,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    limit: int,
    delivery_id: UUID | None = None,
    after: UUID | None = None,
) -> list[StoredDelivery]:
    """Return what was sent to an endpoint or waits for it, newest first and older than `after`; or the one delivery."""
    rows = await db.fetch(SQL.list_deliveries, tenant_id, webhook_id, delivery_id, after, limit)
    return [StoredDelivery(*row) for row in rows]


async def tidy_webhooks(db: Queries, give_up_after: timedelta) -> None:
    """End what is retried no longer, and forget what was sent a month ago; workers may do it at the same time."""
    for sql, age in ((SQL.give_up, give_up_after), (SQL.prune, KEPT_FOR)):
        while (await db.execute(sql, age, PRUNE_BATCH)).rpartition(" ")[2] == str(PRUNE_BATCH):
            pass
