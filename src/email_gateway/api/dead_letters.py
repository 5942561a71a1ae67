"""The operator's dead-letter queue under /admin/dlq: list, count, show, retry, discard."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_cursor, parse_limit, parse_moment
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.advice import dead_advice
from email_gateway.store.dead_letters import (
    DeadFilter,
    DeadLetter,
    DeliveryId,
    count_dead_letters,
    discard_dead_letter,
    discard_dead_letters,
    get_dead_letter,
    list_dead_letters,
    retry_dead_letter,
    retry_dead_letters,
)
from email_gateway.store.messages import StoredEvent, list_events

Why = Annotated[str, Meta(description="Kept in the audit: nothing personal.", max_length=200)]


class DeadLetterView(msgspec.Struct, frozen=True):
    """A dead delivery: who sent it, where it was going, and why it stopped. Nothing personal."""

    id: Annotated[str, Meta(description="`<message id>-<position of the recipient>`.")]
    tenant_id: str
    tenant: str
    message_id: str
    domain: str
    attempts: int
    reason: str | None
    code: int | None
    enhanced: str | None
    created_at: datetime
    dead_at: datetime
    to_do: Annotated[str, Meta(description="What the reason means and what an operator does.")]


class DeadEventView(msgspec.Struct, frozen=True):
    """One fact in a dead delivery's history; the server's reply stays sealed."""

    type: str
    created_at: datetime
    attempt: int | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: str | None


class DeadLetterDetail(msgspec.Struct, frozen=True):
    """A dead delivery with its history, oldest first."""

    delivery: DeadLetterView
    events: list[DeadEventView]


class DeadLetterList(msgspec.Struct, frozen=True):
    """A page of dead deliveries, the newest messages first."""

    has_more: bool
    data: list[DeadLetterView]
    object: str = "list"


class ReasonCount(msgspec.Struct, frozen=True):
    """How many deliveries died for one reason."""

    reason: str | None
    deliveries: int


class DomainCount(msgspec.Struct, frozen=True):
    """How many deliveries to one domain died."""

    domain: str
    deliveries: int


class DeadLetterStats(msgspec.Struct, frozen=True):
    """How many deliveries are dead, and the largest groups of them."""

    total: int
    oldest_at: datetime | None
    newest_at: datetime | None
    by_reason: list[ReasonCount]
    by_domain: list[DomainCount]


class DeadLetterFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters: every field that is given must match."""

    tenant_id: UUID | None = None
    reason: Annotated[str, Meta(max_length=100)] | None = None
    domain: Annotated[str, Meta(max_length=255)] | None = None
    dead_before: Annotated[datetime, Meta(tz=True)] | None = None


class BulkAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to retry or discard: a filter with at least one field, or `all`."""

    filter: DeadLetterFilter = DeadLetterFilter()
    all: bool = False
    reason: Why | None = None


class SingleAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why one dead letter is retried or discarded, for the audit."""

    reason: Why | None = None


class ActDone(msgspec.Struct, frozen=True):
    """How many deliveries were changed; a bulk act changes 1,000 at most, so repeat it until it says 0."""

    changed: int


_BULK = BodyDecoder[BulkAct](BulkAct)
_SINGLE = BodyDecoder[SingleAct](SingleAct)
_ENCODE = msgspec.json.Encoder().encode


async def list_dlq(context: ApiContext, call: Call) -> Reply:
    """Return a page of dead deliveries."""
    query = call.query()
    after = DeliveryId.parse(query["after"]) if "after" in query else None
    letters, has_more = await list_dead_letters(
        context.db, _query_filter(query), limit=parse_limit(query.get("limit")), after=after
    )
    return Reply(200, _ENCODE(dead_letter_list(letters, has_more)))


async def get_dlq_stats(context: ApiContext, call: Call) -> Reply:
    """Count the dead deliveries that match, by reason and by domain."""
    stats = await count_dead_letters(context.db, _query_filter(call.query()))
    return Reply(
        200,
        _ENCODE(
            DeadLetterStats(
                stats.total,
                stats.oldest_at,
                stats.newest_at,
                [ReasonCount(*group) for group in stats.by_reason],
                [DomainCount(*group) for group in stats.by_domain],
            )
        ),
    )


async def get_dlq_delivery(context: ApiContext, call: Call) -> Reply:
    """Return one dead delivery with its history."""
    letter = await get_dead_letter(context.db, DeliveryId.parse(call.params["delivery_id"]))
    events = await list_events(context.db, letter.tenant_id, letter.message_id)
    return Reply(200, _ENCODE(dead_letter_detail(letter, events)))


async def retry_dlq_delivery(context: ApiContext, call: Call) -> Reply:
    """Queue one dead delivery for an attempt now."""
    return await _act_on_one(context, call, retry_dead_letter)


async def discard_dlq_delivery(context: ApiContext, call: Call) -> Reply:
    """Give one dead delivery up; it ends as cancelled."""
    return await _act_on_one(context, call, discard_dead_letter)


async def retry_dlq(context: ApiContext, call: Call) -> Reply:
    """Queue up to 1,000 dead deliveries that match."""
    return await _act_on_many(context, call, retry_dead_letters)


async def discard_dlq(context: ApiContext, call: Call) -> Reply:
    """Give up to 1,000 dead deliveries that match up."""
    return await _act_on_many(context, call, discard_dead_letters)


def dead_letter_list(letters: Sequence[DeadLetter], has_more: bool) -> DeadLetterList:
    """Return a page as it is answered."""
    return DeadLetterList(has_more, [_view(letter) for letter in letters])


def dead_letter_detail(letter: DeadLetter, events: Sequence[StoredEvent]) -> DeadLetterDetail:
    """Return a dead letter as it is answered, with what of its message's history is about it."""
    shown = [
        DeadEventView(event.kind, event.at, event.attempt, event.stage, event.reason, event.code, event.enhanced)
        for event in events
        if event.recipient in (None, letter.recipient)
    ]
    return DeadLetterDetail(_view(letter), shown)


async def _act_on_one(context: ApiContext, call: Call, act: Callable[..., Awaitable[None]]) -> Reply:
    body = await call.read_small_body()
    wanted = SingleAct()
    if body:
        check_json(call.headers, body)
        wanted = _SINGLE.decode(body)
    delivery_id = DeliveryId.parse(call.params["delivery_id"])
    await act(context.db, delivery_id, actor=call.actor, reason=wanted.reason)
    return Reply(200, _ENCODE(ActDone(1)))


async def _act_on_many(context: ApiContext, call: Call, act: Callable[..., Awaitable[int]]) -> Reply:
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _BULK.decode(body)
    # An empty filter matches everything: that has to be meant.
    if (wanted.filter == DeadLetterFilter()) != wanted.all:
        raise InvalidRequest("the filter is not valid", (Fault("/filter", 'give a filter, or "all": true'),))
    given = wanted.filter
    chosen = DeadFilter(given.tenant_id, given.reason, given.domain, given.dead_before)
    return Reply(200, _ENCODE(ActDone(await act(context.db, chosen, actor=call.actor, reason=wanted.reason))))


def _query_filter(query: dict[str, str]) -> DeadFilter:
    tenant = query.get("tenant_id")
    if any("\0" in query.get(name, "") for name in ("reason", "domain")):
        raise InvalidRequest("the filter is not valid", (Fault("", "remove U+0000 from the query"),))
    return DeadFilter(
        tenant_id=parse_cursor(tenant, "tenant_id") if tenant is not None else None,
        reason=query.get("reason"),
        domain=query.get("domain"),
        dead_before=parse_moment(query["dead_before"], "dead_before") if "dead_before" in query else None,
    )


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=str(letter.delivery_id),
        tenant_id=str(letter.tenant_id),
        tenant=letter.tenant,
        message_id=str(letter.message_id),
        domain=letter.domain,
        attempts=letter.attempts,
        reason=letter.reason,
        code=letter.code,
        enhanced=letter.enhanced,
        created_at=letter.created_at,
        dead_at=letter.dead_at,
        to_do=dead_advice(letter.reason),
    )
