"""Where a walk stands: kept per tenant and table, gone on from, begun anew for another key."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import Conflict
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.key_walks import (
    COPIES,
    Counts,
    Position,
    Relation,
    advance_walk,
    begin_walk,
    count_rows,
    find_walk,
    list_walks,
    page_rows,
    share_between,
)
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

KEY, NEWER_KEY = bytes(16), b"\1" * 16
HALF_WAY = Position(uuid4(), uuid4())


async def test_an_unfinished_walk_goes_on_and_a_finished_one_begins_anew(db: Database, tenant_id: UUID) -> None:
    walk = await begin_walk(db, tenant_id, "message", KEY)
    assert (walk.at, walk.counts) == (Position(), Counts())
    walk = await advance_walk(db, walk, HALF_WAY, Counts(5, 2, 1), is_finished=False)
    assert walk == await begin_walk(db, tenant_id, "message", KEY)
    assert (walk.at, walk.counts) == (HALF_WAY, Counts(5, 2, 1))
    await advance_walk(db, walk, HALF_WAY, Counts(1), is_finished=True)
    found = await find_walk(db, tenant_id, "message")
    assert found is not None
    assert found.finished_at is not None
    assert found.counts == Counts(6, 2, 1)
    assert (await begin_walk(db, tenant_id, "message", KEY)).at == Position()


async def test_a_walk_about_another_key_begins_anew(db: Database, tenant_id: UUID) -> None:
    await advance_walk(db, await begin_walk(db, tenant_id, "message", KEY), HALF_WAY, Counts(5), is_finished=False)
    assert (await begin_walk(db, tenant_id, "message", NEWER_KEY)).counts == Counts()
    assert await find_walk(db, tenant_id, "attachment") is None


async def test_a_walk_that_another_command_moved_or_began_for_another_key_is_refused(
    db: Database, tenant_id: UUID
) -> None:
    walk = await begin_walk(db, tenant_id, "message", KEY)
    moved = await advance_walk(db, walk, HALF_WAY, Counts(5), is_finished=False)
    with pytest.raises(Conflict, match="another command"):
        await advance_walk(db, walk, Position(uuid4(), uuid4()), Counts(5), is_finished=False)
    assert await find_walk(db, tenant_id, "message") == moved

    anew = await begin_walk(db, tenant_id, "message", NEWER_KEY)
    for stale in (walk, moved):
        with pytest.raises(Conflict, match="another command"):
            await advance_walk(db, stale, HALF_WAY, Counts(1), is_finished=True)
    assert await find_walk(db, tenant_id, "message") == anew


async def test_a_page_names_every_row_and_holds_its_values(db: Database, tenant_id: UUID) -> None:
    sealed = [b"\xe1\x01" + key_id + bytes(60) for key_id in (KEY, NEWER_KEY)]
    messages = [new_message(sealed_content=value) for value in sealed]
    await Acceptor(db).accept(new_request(tenant_id, *messages))
    page = await page_rows(db, Relation.MESSAGE, tenant_id, Position(), rows=10, octets=1_000_000)
    assert page is not None
    assert page.values == (tuple(sealed), (None, None), (None, None))
    assert page.parent_ids == page.row_ids == tuple(message.message_id for message in messages)
    assert await count_rows(db, Relation.MESSAGE, tenant_id, Position(page.parent_ids[0], page.row_ids[0])) == 1


@pytest.mark.parametrize(
    ("rows", "octets", "expected"), [(10, 1, 1), (10, 78, 1), (10, 79, 2), (2, 1_000, 2), (10, 1_000, 3)]
)
async def test_a_page_ends_at_its_number_of_rows_or_with_the_row_that_reaches_its_octets(
    db: Database, tenant_id: UUID, rows: int, octets: int, expected: int
) -> None:
    messages = [new_message(sealed_content=b"\xe1\x01" + KEY + bytes(60)) for _ in range(3)]
    await Acceptor(db).accept(new_request(tenant_id, *messages))
    page = await page_rows(db, Relation.MESSAGE, tenant_id, Position(), rows=rows, octets=octets)
    assert page is not None
    assert len(page) == expected
    rest = await page_rows(db, Relation.MESSAGE, tenant_id, page.end, rows=10, octets=1_000)
    assert page.row_ids + (rest.row_ids if rest else ()) == tuple(message.message_id for message in messages)


async def test_walks_are_listed_with_about_how_much_of_each_is_done(db: Database, tenant_id: UUID) -> None:
    messages = [new_message() for _ in range(4)]
    await Acceptor(db).accept(new_request(tenant_id, *messages))
    second = sorted(message.message_id for message in messages)[1]
    for name in (*Relation, *COPIES):
        walk = await begin_walk(db, tenant_id, name, KEY)
        at = Position(second, second)
        await advance_walk(db, walk, at, Counts(5, 2, 1), is_finished=name == "inbox_mail")
    await begin_walk(db, tenant_id, "attachment", NEWER_KEY)
    found = await list_walks(db, timedelta(days=1), 20)

    assert {(walk.relation, walk.share) for walk in found} == {
        ("message", 0.5),
        ("blind_index", 0.5),
        ("event", 0.5),  # each message has one, that it was accepted
        ("attachment", 0.0),
        ("inbox_mail", 1.0),
        ("dkim_key", 0.0),
        ("suppression", 0.0),  # there is none
        ("suppression_index", 0.0),
        ("template_version", 0.0),  # there is none
        ("webhook", 0.0),
        ("webhook_delivery", 0.0),
    }
    assert found[-1].relation == "inbox_mail"  # what is finished comes last
    assert {walk.tenant for walk in found} == {"acme"}
    assert found[-1].counts == Counts(5, 2, 1)
    assert len(await list_walks(db, timedelta(days=1), 2)) == 2


async def test_a_walk_that_ended_long_ago_is_no_news(db: Database, tenant_id: UUID) -> None:
    await advance_walk(db, await begin_walk(db, tenant_id, "message", KEY), HALF_WAY, Counts(), is_finished=True)
    await db.execute("UPDATE key_walk SET finished_at = now() - interval '2 days'")
    assert await list_walks(db, timedelta(days=1), 10) == []


async def test_a_long_walk_is_measured_by_time_and_not_counted(
    db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [new_message() for _ in range(4)]
    await Acceptor(db).accept(new_request(tenant_id, *messages))
    ids = sorted(message.message_id for message in messages)
    walk = await begin_walk(db, tenant_id, "message", KEY)
    await advance_walk(db, walk, Position(ids[2], ids[2]), Counts(), is_finished=False)
    monkeypatch.setattr("email_gateway.store.key_walks.MOST_MEASURED", 2)
    [found] = await list_walks(db, timedelta(days=1), 10)
    assert found.share == share_between(ids[0], ids[2], ids[3])


@pytest.mark.parametrize(
    ("first", "at", "last", "share"), [(10, 5, 20, 0.0), (10, 15, 20, 0.5), (10, 99, 20, 1.0), (7, 7, 7, 0.0)]
)
def test_a_share_goes_from_the_first_id_to_the_last(first: int, at: int, last: int, share: float) -> None:
    assert share_between(*(UUID(int=number) for number in (first, at, last))) == share
