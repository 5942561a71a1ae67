"""Where a walk stands: kept per tenant and table, gone on from, begun anew for another key."""

from uuid import UUID, uuid4

import pytest

from email_gateway.errors import Conflict
from email_gateway.store.database import Database
from email_gateway.store.key_walks import (
    Counts,
    Position,
    Relation,
    advance_walk,
    begin_walk,
    count_rows,
    find_walk,
    page_rows,
)
from email_gateway.store.messages import Acceptor
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
    assert page.values == (tuple(sealed), (None, None))
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
