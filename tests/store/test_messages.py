"""Messages in a real PostgreSQL: accepted together, replayed by key, read by page."""

import asyncio
import uuid

import pytest
from uuid_utils.compat import uuid7

from email_gateway.errors import DatabaseRefused, DatabaseUnavailable, IdempotencyConflict, NotFound
from email_gateway.store.database import Database, Record
from email_gateway.store.messages import (
    Accepted,
    Acceptor,
    NewAttachment,
    Page,
    get_message,
    get_sealed_content,
    list_events,
    list_messages,
    list_sealed_attachments,
    prune_idempotency_keys,
    search_messages,
)
from tests.makers import INDEX_KEY, SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

KEY, OTHER_KEY = bytes(range(16)), bytes(16)
BODY, OTHER_BODY = bytes(32), b"\1" * 32


async def count(db: Database, table: str) -> int:
    rows = await db.fetch(f"SELECT count(*) AS n FROM {table}")
    return int(rows[0]["n"])


async def test_an_accepted_message_is_stored_with_its_delivery_event_and_index(
    db: Database, tenant_id: uuid.UUID
) -> None:
    attachment = NewAttachment(uuid7(), SEALED, 5)
    message = new_message(
        domains=("a.example", "b.example"),
        tags=(("kind", "invoice"),),
        attachments=(attachment,),
        blind=((INDEX_KEY, "address", b"\2" * 16),),
    )
    accepted = await Acceptor(db).accept(new_request(tenant_id, message))
    stored = await get_message(db, tenant_id, message.message_id)
    assert not accepted.is_replay
    assert [delivery.domain for delivery in stored.deliveries] == ["a.example", "b.example"]
    assert stored.tags == (("kind", "invoice"),)
    assert await list_sealed_attachments(db, tenant_id, message.message_id) == [(attachment.attachment_id, SEALED)]
    assert await get_sealed_content(db, tenant_id, message.message_id) == SEALED
    assert [event.kind for event in await list_events(db, tenant_id, message.message_id)] == ["accepted"]
    found, has_more = await search_messages(db, tenant_id, "address", b"\2" * 16, INDEX_KEY, Page())
    assert [hit.message_id for hit in found] == [message.message_id]
    assert not has_more


async def test_a_message_of_another_tenant_is_not_found(db: Database, tenant_id: uuid.UUID) -> None:
    message = new_message()
    await Acceptor(db).accept(new_request(tenant_id, message))
    with pytest.raises(NotFound):
        await get_message(db, uuid.uuid4(), message.message_id)


async def test_fifty_twins_with_one_key_store_one_message(db: Database, tenant_id: uuid.UUID) -> None:
    acceptors = [Acceptor(db) for _ in range(4)]  # as four processes would
    answers = await asyncio.gather(
        *(
            acceptors[number % 4].accept(
                new_request(tenant_id, key_hmac=KEY, fingerprint=BODY, response=str(number).encode())
            )
            for number in range(50)
        )
    )
    assert await count(db, "message") == 1
    assert len({answer.response for answer in answers}) == 1
    assert sum(not answer.is_replay for answer in answers) == 1


async def test_a_key_used_for_another_body_is_refused_and_stores_nothing(db: Database, tenant_id: uuid.UUID) -> None:
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=BODY))
    with pytest.raises(IdempotencyConflict):
        await acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=OTHER_BODY))
    assert await count(db, "message") == 1


async def test_a_key_may_be_used_again_after_its_window(db: Database, tenant_id: uuid.UUID) -> None:
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=BODY))
    await db.execute("UPDATE idempotency SET expires_at = now()")
    answer = await acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=OTHER_BODY))
    assert not answer.is_replay
    assert await count(db, "message") == 2


BOTH = ((KEY, BODY), (OTHER_KEY, BODY))


@pytest.mark.parametrize("known", [BOTH[:1], BOTH[1:]])
async def test_a_request_wins_with_all_its_keys_or_stores_nothing(
    db: Database, tenant_id: uuid.UUID, known: tuple[tuple[bytes, bytes], ...]
) -> None:
    acceptor = Acceptor(db)
    first = await acceptor.accept(new_request(tenant_id, idempotency=known, response=b"first"))
    second = await acceptor.accept(new_request(tenant_id, idempotency=BOTH, response=b"second"))
    assert (first.is_replay, second.is_replay) == (False, True)
    assert second.response == b"first"
    assert await count(db, "message") == 1
    assert await count(db, "idempotency") == 1, "what it had won of its keys is given back"


@pytest.mark.parametrize("known", [BOTH[:1], BOTH[1:]])
async def test_a_request_with_two_keys_is_known_under_each_of_them(
    db: Database, tenant_id: uuid.UUID, known: tuple[tuple[bytes, bytes], ...]
) -> None:
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, idempotency=BOTH, response=b"first"))
    second = await acceptor.accept(new_request(tenant_id, idempotency=known, response=b"second"))
    assert (second.response, second.is_replay) == (b"first", True)
    with pytest.raises(IdempotencyConflict):
        await acceptor.accept(new_request(tenant_id, idempotency=tuple((key, OTHER_BODY) for key, _ in known)))
    assert await count(db, "message") == 1


async def test_twins_in_one_group_that_bring_different_keys_store_one_message(
    db: Database, tenant_id: uuid.UUID
) -> None:
    acceptor = Acceptor(db)
    requests = [
        new_request(tenant_id, idempotency=known, response=str(number).encode())
        for number, known in enumerate([BOTH[:1], BOTH, BOTH[:1], BOTH[::-1]])
    ]
    answers = await asyncio.gather(*map(acceptor.accept, [new_request(tenant_id), *requests]))
    assert await count(db, "message") == 2
    assert {answer.response for answer in answers[1:]} == {b"0"}


async def test_pruning_forgets_expired_keys_and_no_other(db: Database, tenant_id: uuid.UUID) -> None:
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=BODY))
    await db.execute("UPDATE idempotency SET expires_at = now()")
    await acceptor.accept(new_request(tenant_id, key_hmac=OTHER_KEY, fingerprint=BODY))
    await prune_idempotency_keys(db)
    rows = await db.fetch("SELECT key_hmac FROM idempotency")
    assert [row["key_hmac"] for row in rows] == [OTHER_KEY]
    assert await count(db, "message") == 2


async def test_groups_with_the_same_keys_in_opposite_order_do_not_deadlock(db: Database, tenant_id: uuid.UUID) -> None:
    acceptors = [Acceptor(db) for _ in range(6)]
    keys = [number.to_bytes(16) for number in range(40)]
    sends = [
        acceptor.accept(new_request(tenant_id, key_hmac=key, fingerprint=BODY))
        for turn, acceptor in enumerate(acceptors)
        for key in (keys if turn % 2 else reversed(keys))
    ]
    await asyncio.gather(*sends)
    assert await count(db, "message") == len(keys)


async def test_one_bad_member_does_not_fail_its_group(db: Database, tenant_id: uuid.UUID) -> None:
    acceptor = Acceptor(db)
    results = await asyncio.gather(
        acceptor.accept(new_request(tenant_id)),
        acceptor.accept(new_request(tenant_id, new_message(sealed_content=b"in clear: refused by a constraint" * 3))),
        acceptor.accept(new_request(tenant_id, key_hmac=OTHER_KEY, fingerprint=BODY)),
        return_exceptions=True,
    )
    assert isinstance(results[1], DatabaseRefused)
    assert results[1].constraint == "message_content_is_sealed"
    assert await count(db, "message") == 2


async def test_pages_run_both_ways_and_say_whether_there_is_more(db: Database, tenant_id: uuid.UUID) -> None:
    messages = [new_message() for _ in range(5)]
    for message in messages:
        await Acceptor(db).accept(new_request(tenant_id, message))
    ids = [message.message_id for message in reversed(messages)]
    first, more = await list_messages(db, tenant_id, Page(limit=2))
    assert ([m.message_id for m in first], more) == (ids[:2], True)
    last, more = await list_messages(db, tenant_id, Page(limit=3, after=ids[1]))
    assert ([m.message_id for m in last], more) == (ids[2:], False)
    back, more = await list_messages(db, tenant_id, Page(limit=2, before=ids[3]))
    assert ([m.message_id for m in back], more) == (ids[1:3], True)


class CutOffAfterCommit(Database):
    """The real database, away whenever a single row is asked for, as when the server dies after COMMIT."""

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        raise DatabaseUnavailable("cut off")


async def test_a_replay_that_cannot_be_read_does_not_fail_what_was_committed_with_it(
    db: Database, database_url: str, tenant_id: uuid.UUID
) -> None:
    await Acceptor(db).accept(new_request(tenant_id, key_hmac=KEY, fingerprint=BODY))
    cut_off = await CutOffAfterCommit.connect(database_url, pool_size=1)
    acceptor = Acceptor(cut_off)
    fresh, replay = await asyncio.gather(
        acceptor.accept(new_request(tenant_id)),
        acceptor.accept(new_request(tenant_id, key_hmac=KEY, fingerprint=BODY)),
        return_exceptions=True,
    )
    assert isinstance(fresh, Accepted)
    assert isinstance(replay, DatabaseUnavailable)
    assert await count(db, "message") == 2
    await cut_off.close()
