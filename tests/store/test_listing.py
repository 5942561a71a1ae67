"""Lists by time, tag, state and person: what is in them, and that each goes down an index, however many mails there are."""

import hashlib
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from email_gateway.mail.deliveries import State
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Transaction
from email_gateway.store.listing import (
    CLOCKS_DIFFER,
    EVERY,
    Blind,
    Chosen,
    arguments,
    list_messages,
    statement,
)
from email_gateway.store.pages import Page
from tests.makers import INDEX_KEY, SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

MARIA = b"\2" * 16
FILLED = 20_000
TYPES = [
    "uuid",
    "uuid",
    "uuid",
    "text",
    "text",
    "text",
    "boolean",
    "timestamptz",
    "timestamptz",
    "int",
    "text",
    "bytea",
    "bytea",
]


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def found(db: Database, tenant_id: uuid.UUID, page: Page = Page(), **chosen: Any) -> list[uuid.UUID]:  # noqa: B008
    return [message.message_id for message in (await list_messages(db, tenant_id, page, Chosen(**chosen)))[0]]


async def end(db: Database, message_id: uuid.UUID, state: State, recipient: int = 0) -> None:
    await db.execute(
        "UPDATE delivery SET state = $2, finished_at = now() WHERE message_id = $1 AND recipient = $3",
        message_id, state.value, recipient,
    )  # fmt: skip


async def test_each_criterion_narrows_a_list_and_all_must_hold(db: Database, tenant_id: uuid.UUID) -> None:
    invoice, maria = ("kind", "invoice"), ((INDEX_KEY, "address", MARIA),)
    both = await accept(db, tenant_id, tags=(invoice,), blind=maria, domains=("a.example", "b.example"))
    tagged = await accept(db, tenant_id, tags=(invoice, ("run", "7")))
    other = await accept(db, tenant_id, tags=(("kind", "contract"),), blind=maria)
    later = await accept(db, tenant_id, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    await end(db, both, State.BOUNCED, 1)
    await end(db, other, State.DELIVERED)
    blind = Blind("address", MARIA, INDEX_KEY)
    assert await found(db, tenant_id) == [later, other, tagged, both]
    assert await found(db, tenant_id, tag=invoice) == [tagged, both]
    assert await found(db, tenant_id, tag=("kind", "7")) == []
    assert await found(db, tenant_id, state=State.QUEUED) == [tagged, both]
    assert await found(db, tenant_id, state=State.QUEUED, is_scheduled=True) == [later]
    assert await found(db, tenant_id, state=State.BOUNCED) == [both]
    assert await found(db, tenant_id, state=State.DELIVERED) == [other]
    assert await found(db, tenant_id, blind=blind) == [other, both]
    assert await found(db, tenant_id, blind=blind, tag=invoice) == [both]
    assert await found(db, tenant_id, blind=blind, state=State.DELIVERED) == [other]
    assert await found(db, tenant_id, tag=invoice, state=State.BOUNCED) == [both]
    assert await found(db, tenant_id, tag=invoice, state=State.DELIVERED) == []
    assert await found(db, uuid.uuid4(), tag=invoice) == []
    await end(db, later, State.CANCELLED)
    assert await found(db, tenant_id, state=State.CANCELLED) == [later]


async def test_time_is_the_databases_own_whatever_the_ids_say(db: Database, tenant_id: uuid.UUID) -> None:
    ids = [await accept(db, tenant_id, tags=(("kind", "invoice"),)) for _ in range(3)]
    noon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    for number, message_id in enumerate(ids):
        await db.execute(
            "UPDATE message SET created_at = $2 WHERE message_id = $1", message_id, noon + timedelta(seconds=number)
        )
    second = timedelta(seconds=1)
    for chosen in ({}, {"tag": ("kind", "invoice")}, {"state": State.QUEUED}):
        assert await found(db, tenant_id, since=noon + second, **chosen) == ids[:0:-1]
        assert await found(db, tenant_id, until=noon + second, **chosen) == ids[:1]
        assert await found(db, tenant_id, since=noon + second, until=noon + 2 * second, **chosen) == ids[1:2]
    extremes = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    assert await found(db, tenant_id, since=extremes[0], until=extremes[1]) == ids[::-1]
    assert await found(db, tenant_id, since=extremes[1]) == []
    assert await found(db, tenant_id, until=extremes[0]) == []


async def test_narrowed_lists_are_paged_both_ways(db: Database, tenant_id: uuid.UUID) -> None:
    ids = [await accept(db, tenant_id, domains=("a.example",) * 3, tags=(("n", str(n % 2)),)) for n in range(10)][::-1]
    odd = ids[::2]
    for chosen, expected in ((Chosen(tag=("n", "1")), odd), (Chosen(state=State.QUEUED), ids), (EVERY, ids)):
        walked: list[uuid.UUID] = []
        page, has_more = Page(2), True
        while has_more:
            messages, has_more = await list_messages(db, tenant_id, page, chosen)
            walked += [message.message_id for message in messages]
            page = Page(2, after=walked[-1])
        assert walked == expected
        back, has_more = await list_messages(db, tenant_id, Page(2, before=expected[3]), chosen)
        assert ([message.message_id for message in back], has_more) == (expected[1:3], True)


async def fill(db: Database, tenant_id: uuid.UUID) -> None:
    """Twenty thousand delivered mails of one kind, one in a thousand of them rare in each way, and three to leave later."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    ids = [uuid.UUID(int=((now - (FILLED - n) * 1000) << 80) + (7 << 76) + (2 << 62) + n) for n in range(FILLED)]
    numbered = "FROM unnest($2::uuid[]) WITH ORDINALITY AS made (id, n)"
    await db.execute(
        "INSERT INTO message (tenant_id, message_id, sealed_content, size, sender_domain, delivery_count, created_at, expires_at)"
        f" SELECT $1, id, $3, 1, 'acme.example', 1, now() - ($4 - n) * interval '1 second', now() {numbered}",
        tenant_id, ids, SEALED, FILLED,
    )  # fmt: skip
    await db.execute(
        "INSERT INTO delivery (tenant_id, message_id, recipient, domain, state, finished_at) SELECT $1, id, 0, 'example.net',"
        f" CASE WHEN n % 1000 = 0 THEN 'bounced' ELSE 'delivered' END, now() {numbered}",
        tenant_id, ids,
    )  # fmt: skip
    await db.execute(
        "INSERT INTO message_tag (tenant_id, message_id, name, value)"
        f" SELECT $1, id, 'kind', CASE WHEN n % 1000 = 1 THEN 'rare' ELSE 'common' END {numbered}",
        tenant_id, ids,
    )  # fmt: skip
    await db.execute(
        "INSERT INTO blind_index (tenant_id, field, index_key_id, value, message_id)"
        f" SELECT $1, 'address', $3::bytea, decode(md5((n % 1000)::text), 'hex'), id {numbered}",
        tenant_id, ids, INDEX_KEY,
    )  # fmt: skip
    for _ in range(3):
        await accept(db, tenant_id, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    await db.execute("VACUUM ANALYZE")


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return str(value) if isinstance(value, int | bool) else f"'{value}'"


async def explain(transaction: Transaction, tenant_id: uuid.UUID, chosen: Chosen, page: Page) -> str:
    """How the database goes about it, as asyncpg's prepared statement would have it."""
    given = [tenant_id, *arguments(page, chosen)]
    sql = statement(chosen, is_backwards=page.before is not None)
    await transaction.execute(f"PREPARE listing ({', '.join(TYPES[: len(given)])}) AS {sql}")
    lines = await transaction.fetch(
        "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF)"
        f" EXECUTE listing ({', '.join(map(literal, given))})"
    )
    await transaction.execute("DEALLOCATE listing")
    return "\n".join(line[0] for line in lines)


async def test_every_list_goes_down_an_index_and_reads_no_more_than_its_page(
    db: Database, tenant_id: uuid.UUID
) -> None:
    await fill(db, tenant_id)
    day = datetime.now(UTC) - timedelta(hours=3)
    maria = Blind("address", hashlib.md5(b"7").digest(), INDEX_KEY)
    wanted = [
        (EVERY, "message_pkey"),
        (Chosen(since=day, until=day + timedelta(hours=1)), "message_pkey"),
        (Chosen(tag=("kind", "common")), "message_tag_(value|pkey)"),
        (Chosen(tag=("kind", "rare")), "message_tag_value"),
        (Chosen(tag=("kind", "common"), since=day), "message_tag_(value|pkey)"),
        (Chosen(tag=("kind", "common"), state=State.DELIVERED), "message_tag_(value|pkey)"),
        (Chosen(tag=("kind", "common"), state=State.BOUNCED), "delivery_ended"),
        (Chosen(state=State.DELIVERED), "message_pkey"),
        (Chosen(state=State.BOUNCED, since=day), "delivery_ended"),
        (Chosen(state=State.EXPIRED), "delivery_ended"),
        (Chosen(state=State.QUEUED), r"delivery_\w+"),
        (Chosen(state=State.SENDING), r"delivery_\w+"),
        (Chosen(state=State.QUEUED, is_scheduled=True), "delivery_scheduled"),
        (Chosen(blind=maria), "blind_index_pkey"),
        (Chosen(blind=maria, tag=("kind", "common"), state=State.DELIVERED, since=day), "blind_index_pkey"),
    ]
    middle = uuid.UUID(int=(int((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1000)) << 80)
    for mode in ("force_custom_plan", "force_generic_plan"):
        for page in (Page(20), Page(20, after=middle), Page(20, before=middle)):
            for chosen, index in wanted:
                async with db.transaction() as transaction:
                    await transaction.execute(f"SET LOCAL plan_cache_mode = {mode}")
                    plan = await explain(transaction, tenant_id, chosen, page)
                assert re.search(rf"Index (Only )?Scan (Backward )?using {index} on \w+ candidate", plan), plan
                assert "Seq Scan" not in plan, plan
                assert "Sort" not in plan or chosen.state in (State.QUEUED, State.SENDING), plan
                (read,) = re.findall(r"^ *Buffers: shared (?:hit=(\d+))?", plan, re.MULTILINE)[:1]
                # What lies within the clocks' difference is passed over one by one.
                most = 400 if chosen.since is None else 400 + 5 * int(CLOCKS_DIFFER.total_seconds())
                assert int(read) < most, f"{chosen}\n{plan}"


async def test_of_a_long_queue_the_newest_are_listed_without_reading_it_to_its_end(
    db: Database, tenant_id: uuid.UUID
) -> None:
    await fill(db, tenant_id)
    await db.execute(
        "UPDATE delivery SET state = 'queued', next_attempt_at = now(), finished_at = NULL, expires_at = now() + interval '1 day'"
    )
    await db.execute("VACUUM ANALYZE")
    for mode in ("force_custom_plan", "force_generic_plan"):
        for chosen in (Chosen(state=State.QUEUED), Chosen(state=State.QUEUED, tag=("kind", "common"))):
            async with db.transaction() as transaction:
                await transaction.execute(f"SET LOCAL plan_cache_mode = {mode}")
                plan = await explain(transaction, tenant_id, chosen, Page(20))
            (read,) = re.findall(r"^ *Buffers: shared (?:hit=(\d+))?", plan, re.MULTILINE)[:1]
            assert int(read) < 400, plan
