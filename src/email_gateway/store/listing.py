"""Which of a tenant's messages: by time, tag, state and person, a page at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.mail.deliveries import State
from email_gateway.store.database import Queries
from email_gateway.store.messages import StoredMessage, get_messages
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("listing")

# An id is made by an api process, `created_at` by the database: their clocks differ, and a large message is written
# some time after it got its id. Ids so much before or after a moment are looked at too.
CLOCKS_DIFFER = timedelta(minutes=10)
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
MILLISECONDS_AT = 80  # RFC 9562 section 5.7: a UUIDv7 begins with 48 bits of Unix time
MOST_MILLISECONDS = 2**48 - 1


@dataclass(frozen=True, slots=True)
class Blind:
    """A person's value as it is kept: blind, under one index key."""

    field: str
    value: bytes
    index_key_id: bytes


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which messages: everything that is given must hold.

    `state` is of any of a message's deliveries; one that `is_scheduled` is not found among the queued. `since` is
    within, `until` beyond. What a blind value finds is for the caller to open and compare.
    """

    tag: tuple[str, str] | None = None
    state: State | None = None
    is_scheduled: bool = False
    since: datetime | None = None
    until: datetime | None = None
    blind: Blind | None = None


EVERY = Chosen()


async def list_messages(
    db: Queries, tenant_id: UUID, page: Page, chosen: Chosen = EVERY
) -> tuple[list[StoredMessage], bool]:
    """Return a page of the tenant's messages, newest first, and whether there are more."""
    sql = statement(chosen, is_backwards=page.before is not None)
    rows = await db.fetch(sql, tenant_id, *arguments(page, chosen))
    ids = [row["message_id"] for row in rows[: page.limit]]
    return await get_messages(db, tenant_id, ids), len(rows) > page.limit


def statement(chosen: Chosen, *, is_backwards: bool) -> str:
    """Return the query that goes down the index of what is likely rarest; `is_backwards` is from old to new.

    What was delivered is no such thing: it is looked for among a tag's messages, or among all.
    """
    if chosen.blind is not None:
        candidates = SQL.by_person
    elif chosen.is_scheduled:
        candidates = SQL.by_schedule
    elif chosen.state is not None and chosen.state is not State.DELIVERED:
        candidates = SQL.by_state.replace(":state", f"'{chosen.state.value}'")
    elif chosen.tag is not None:
        candidates = SQL.by_tag
    else:
        candidates = SQL.by_time
    return f"{candidates}\n{SQL.matching}\nORDER BY message_id {'ASC' if is_backwards else 'DESC'} LIMIT $10"


def arguments(page: Page, chosen: Chosen) -> list[object]:
    """Return what the query takes behind the tenant."""
    name, value = chosen.tag or (None, None)
    low, high = _ids_between(chosen.since, chosen.until)
    blind = chosen.blind
    return [
        max(low, page.before or low),
        min(high, page.after or high),
        name,
        value,
        chosen.state.value if chosen.state else None,
        chosen.is_scheduled,
        chosen.since,
        chosen.until,
        page.limit + 1,
        *((blind.field, blind.index_key_id, blind.value) if blind else ()),
    ]


def _ids_between(since: datetime | None, until: datetime | None) -> tuple[UUID, UUID]:
    """Return ids between which every message lies that was accepted between two moments."""
    low = FIRST_ID if since is None else UUID(int=_milliseconds(since, -CLOCKS_DIFFER) << MILLISECONDS_AT)
    high = LAST_ID if until is None else UUID(int=(_milliseconds(until, CLOCKS_DIFFER) + 1 << MILLISECONDS_AT) - 1)
    return low, high


def _milliseconds(moment: datetime, by: timedelta) -> int:
    return min(max(int((moment.timestamp() + by.total_seconds()) * 1000), 0), MOST_MILLISECONDS)
