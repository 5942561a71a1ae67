import asyncio
import re
from datetime import timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from email_gateway.errors import DatabaseRefused
from email_gateway.mail.deliveries import State
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.statistics import (
    SQL,
    RecentFilter,
    find_tenant_name,
    fold_tallies,
    list_arrivals,
    list_counts,
    list_minutes,
    list_recent,
    list_recounts,
)
from tests.makers import SEALED, new_message, new_request

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other_tenant(db: Database) -> UUID:
    tenant = uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", tenant)
    return tenant


async def accept(db: Database, tenant_id: UUID, **changes: object) -> UUID:
    message = new_message(**changes)
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, message))
    await acceptor.close()
    return message.message_id


async def test_counts_are_by_state_and_tenant_and_balance(db: Database, tenant_id: UUID, other_tenant: UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    await db.execute(
        "UPDATE delivery SET state = 'delivered', next_attempt_at = NULL, finished_at = now() WHERE recipient = 1"
    )
    busy, idle = await list_counts(db)
    assert (busy.name, busy.accepted, busy.difference) == ("acme", 2, 0)
    assert (busy.by_state[State.DELIVERED], busy.by_state[State.QUEUED], busy.by_state[State.DEAD]) == (1, 1, 0)
    assert (idle.tenant_id, idle.accepted) == (other_tenant, 0)


async def deliver_first(db: Database) -> None:
    await db.execute(
        "UPDATE delivery SET state = 'delivered', next_attempt_at = NULL, finished_at = now() WHERE recipient = 0"
    )


async def test_running_totals_are_what_a_recount_finds_before_and_after_they_are_folded(
    db: Database, tenant_id: UUID, other_tenant: UUID
) -> None:
    for tenant in (tenant_id, tenant_id, other_tenant):
        await accept(db, tenant, domains=("a.example", "b.example"))
    await deliver_first(db)
    before = await list_counts(db)
    assert await list_recounts(db) == {}
    await asyncio.gather(*(fold_tallies(db) for _ in range(5)))
    assert await db.fetch("SELECT FROM tally") == []
    assert await list_counts(db) == before
    await accept(db, tenant_id)
    await fold_tallies(db)
    assert await list_recounts(db) == {}
    assert [one.accepted for one in await list_counts(db)] == [5, 2]


async def test_what_is_rolled_back_is_not_counted_and_what_is_removed_no_longer(db: Database, tenant_id: UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    with pytest.raises(DatabaseRefused):
        async with db.transaction() as transaction:
            await transaction.execute("DELETE FROM delivery; SELECT 1 / 0")
    (counts,) = await list_counts(db)
    assert (counts.accepted, counts.by_state[State.QUEUED]) == (2, 2)
    await db.execute("DELETE FROM delivery")
    await db.execute("DELETE FROM message")
    (counts,) = await list_counts(db)
    assert (counts.accepted, counts.by_state[State.QUEUED], counts.difference) == (0, 0, 0)


async def test_an_update_that_changes_no_state_leaves_no_difference(db: Database, tenant_id: UUID) -> None:
    await accept(db, tenant_id)
    await fold_tallies(db)
    await db.execute("UPDATE delivery SET attempts = 1")
    assert await db.fetch("SELECT FROM tally") == []


async def test_a_recount_names_who_is_off_and_by_how_much(db: Database, tenant_id: UUID, other_tenant: UUID) -> None:
    await accept(db, tenant_id)
    await accept(db, other_tenant)
    await db.execute("INSERT INTO tally (tenant_id, state, amount) VALUES ($1, 'bounced', 3)", tenant_id)
    assert await list_recounts(db) == {"acme": 3}


async def test_counting_walks_over_neither_messages_nor_deliveries(db: Database) -> None:
    plan = await db.fetch(f"EXPLAIN {SQL.list_counts}")
    text = " ".join(row[0] for row in plan)
    assert "running_total" in text
    assert not re.search(r"on (message|delivery|event)\b", text)


async def test_what_is_kept_has_a_count_of_its_own_and_the_books_balance(db: Database, tenant_id: UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    await db.execute(
        "UPDATE delivery SET state = 'kept', next_attempt_at = NULL, finished_at = now() WHERE recipient = 1"
    )
    await db.execute(
        "INSERT INTO daily_total (tenant_id, day, accepted, delivered, kept) VALUES ($1, '2026-11-01', 5, 2, 3)",
        tenant_id,
    )
    (counts,) = await list_counts(db)
    assert (counts.accepted, counts.difference) == (7, 0)
    assert (counts.by_state[State.KEPT], counts.by_state[State.DELIVERED], counts.by_state[State.QUEUED]) == (4, 2, 1)


async def test_the_hour_counts_what_is_kept_as_failed_and_never_as_delivered(db: Database, tenant_id: UUID) -> None:
    message_id = await accept(db, tenant_id)
    await db.execute("INSERT INTO event (tenant_id, message_id, kind) VALUES ($1, $2, 'kept')", tenant_id, message_id)
    minutes = await list_minutes(db)
    assert (sum(m.delivered for m in minutes), sum(m.failed for m in minutes)) == (0, 1)


async def test_a_lost_delivery_shows_as_a_difference(db: Database, tenant_id: UUID) -> None:
    await accept(db, tenant_id, domains=("a.example", "b.example"))
    await db.execute("DELETE FROM delivery WHERE recipient = 1")
    assert [counts.difference for counts in await list_counts(db)] == [1]


async def test_the_hour_has_sixty_minutes_in_order_and_counts_facts(db: Database, tenant_id: UUID) -> None:
    message_id = await accept(db, tenant_id)
    await db.execute(
        "INSERT INTO event (tenant_id, message_id, kind, at) VALUES ($1, $2, 'delivered', now() - interval '30 minutes'),"
        " ($1, $2, 'bounced', now() - interval '30 minutes'), ($1, $2, 'delivered', now() - interval '2 hours')",
        tenant_id,
        message_id,
    )
    minutes = await list_minutes(db)
    assert len(minutes) == 60
    assert {b.at - a.at for a, b in pairwise(minutes)} == {timedelta(minutes=1)}
    assert (minutes[-1].accepted or minutes[-2].accepted, sum(m.accepted for m in minutes)) == (1, 1)
    assert (minutes[29].delivered + minutes[28].delivered, sum(m.delivered for m in minutes)) == (1, 1)
    assert sum(m.failed for m in minutes) == 1


async def test_recent_messages_of_all_tenants_come_newest_first(
    db: Database, tenant_id: UUID, other_tenant: UUID
) -> None:
    ids = [await accept(db, tenant) for tenant in (tenant_id, other_tenant, tenant_id, other_tenant)]
    page, has_older = await list_recent(db, RecentFilter(), limit=3)
    assert [message.message_id for message in page] == ids[:0:-1]
    assert has_older
    assert [message.tenant_name for message in page] == ["other", "acme", "other"]
    rest, has_older = await list_recent(db, RecentFilter(before=page[-1].message_id), limit=3)
    assert [message.message_id for message in rest] == ids[:1]
    assert not has_older


async def test_recent_messages_are_filtered_by_tenant_and_state(
    db: Database, tenant_id: UUID, other_tenant: UUID
) -> None:
    mine = await accept(db, tenant_id, domains=("a.example", "b.example"))
    theirs = await accept(db, other_tenant)
    await db.execute(
        "UPDATE delivery SET state = 'dead', next_attempt_at = NULL, finished_at = now() WHERE recipient = 1"
    )

    async def shown(wanted: RecentFilter) -> list[UUID]:
        return [message.message_id for message in (await list_recent(db, wanted, limit=10))[0]]

    assert await shown(RecentFilter(tenant_id=other_tenant)) == [theirs]
    assert await shown(RecentFilter(state=State.DEAD)) == [mine]
    assert await shown(RecentFilter(state=State.QUEUED)) == [theirs, mine]
    assert await shown(RecentFilter(tenant_id=other_tenant, state=State.DEAD)) == []
    (message,) = (await list_recent(db, RecentFilter(state=State.DEAD), limit=10))[0]
    assert message.states == (State.QUEUED, State.DEAD)


async def test_the_list_reads_a_summary_where_there_is_one(db: Database, tenant_id: UUID) -> None:
    large = await accept(db, tenant_id, sealed_summary=SEALED + b"summary")
    small = await accept(db, tenant_id)
    page, _ = await list_recent(db, RecentFilter(), limit=10)
    assert [message.shown for message in page] == [
        ("message.content", small, SEALED),
        ("message.summary", large, SEALED + b"summary"),
    ]
    assert page[1].sealed_content is None


async def test_arrivals_come_newest_first_without_the_mails(db: Database, tenant_id: UUID) -> None:
    ids = [uuid7() for _ in range(3)]
    for inbox_id in ids:
        await db.execute(
            "INSERT INTO inbox_mail (tenant_id, inbox_id, message_id, recipients, sealed_raw, size)"
            " VALUES ($1, $2, $3, '{0,1}', $4, 7)",
            tenant_id,
            inbox_id,
            uuid4(),
            SEALED,
        )
    arrivals = await list_arrivals(db, limit=2)
    assert [arrival.inbox_id for arrival in arrivals] == ids[:0:-1]
    assert (arrivals[0].tenant_name, arrivals[0].recipients, arrivals[0].size) == ("acme", 2, 7)


async def test_a_tenants_name_is_found_or_none(db: Database, tenant_id: UUID) -> None:
    assert await find_tenant_name(db, tenant_id) == "acme"
    assert await find_tenant_name(db, uuid4()) is None
