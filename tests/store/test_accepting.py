"""Messages on their way into a real PostgreSQL: in groups, once for each key, large values piece by piece."""

import asyncio
import os
import uuid

import pytest
from uuid_utils.compat import uuid7

from email_gateway.errors import DatabaseRefused, DatabaseUnavailable, IdempotencyConflict
from email_gateway.store.accepting import (
    PIECE_BYTES,
    PIECE_COLUMNS,
    ROW_BYTES,
    SQL,
    Accepted,
    Acceptor,
    NewAttachment,
    prune_idempotency_keys,
)
from email_gateway.store.database import Database, Record
from email_gateway.store.messages import (
    get_sealed_content,
    list_sealed_attachments,
)
from tests.makers import SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

KEY, OTHER_KEY = bytes(range(16)), bytes(16)
BODY, OTHER_BODY = bytes(32), b"\1" * 32


async def count(db: Database, table: str) -> int:
    rows = await db.fetch(f"SELECT count(*) AS n FROM {table}")
    return int(rows[0]["n"])


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


def in_pieces(size: int) -> tuple[bytes, bytes, memoryview]:
    """A sealed value of this size: the whole, its first piece, and what follows."""
    whole = SEALED + os.urandom(size - len(SEALED))
    return whole, whole[:PIECE_BYTES], memoryview(whole)[PIECE_BYTES:]


@pytest.mark.parametrize("beyond", [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 7])
async def test_a_large_value_is_read_as_it_was_written(db: Database, tenant_id: uuid.UUID, beyond: int) -> None:
    content, first, rest = in_pieces(PIECE_BYTES + beyond)
    file, first_of_file, rest_of_file = in_pieces(PIECE_BYTES + beyond)
    attachments = (
        NewAttachment(uuid7(), first_of_file, 1, rest_of_file),
        NewAttachment(uuid7(), SEALED, 1),
    )
    message = new_message(sealed_content=first, rest=rest, attachments=attachments)
    await Acceptor(db).accept(new_request(tenant_id, message, new_message()))
    assert await get_sealed_content(db, tenant_id, message.message_id) == content
    assert await list_sealed_attachments(db, tenant_id, message.message_id) == [
        (attachments[0].attachment_id, file),
        (attachments[1].attachment_id, SEALED),
    ]
    assert await count(db, "sealed_piece") == 2 * -(-beyond // ROW_BYTES)


async def test_rows_of_a_large_value_stay_in_their_pages(db: Database, tenant_id: uuid.UUID) -> None:
    _, first, rest = in_pieces(3 * PIECE_BYTES)
    await Acceptor(db).accept(new_request(tenant_id, new_message(sealed_content=first, rest=rest)))
    (row,) = await db.fetch(
        "SELECT pg_relation_size(reltoastrelid) AS toast FROM pg_class WHERE relname = 'sealed_piece'"
    )
    assert row["toast"] == 0


async def test_a_value_in_larger_rows_of_a_release_before_is_read(db: Database, tenant_id: uuid.UUID) -> None:
    content, first, rest = in_pieces(3 * PIECE_BYTES)
    message = new_message(sealed_content=first)
    await Acceptor(db).accept(new_request(tenant_id, message))
    async with db.transaction() as transaction:
        for number in (1, 2):
            piece = rest[(number - 1) * PIECE_BYTES : number * PIECE_BYTES]
            row = (tenant_id, message.message_id, message.message_id, number, piece)
            await transaction.copy("sealed_piece", PIECE_COLUMNS, [row])
    assert await get_sealed_content(db, tenant_id, message.message_id) == content


async def test_a_large_message_that_is_refused_half_way_leaves_nothing(db: Database, tenant_id: uuid.UUID) -> None:
    _, first, rest = in_pieces(2 * PIECE_BYTES)
    twin = NewAttachment(uuid7(), first, 1, rest)
    message = new_message(sealed_content=first, rest=rest, attachments=(twin, twin))
    with pytest.raises(DatabaseRefused):
        await Acceptor(db).accept(new_request(tenant_id, message))
    assert {await count(db, table) for table in ("message", "attachment", "sealed_piece")} == {0}


async def test_what_was_written_before_is_on_the_disk_when_it_has_been_awaited(
    db: Database, tenant_id: uuid.UUID
) -> None:
    async with db.transaction() as transaction:
        piece = (tenant_id, uuid7(), uuid7(), 1, os.urandom(ROW_BYTES))
        await transaction.copy("sealed_piece", PIECE_COLUMNS, [piece])
        (written,) = await db.fetch("SELECT pg_current_wal_insert_lsn() AS lsn")
        await db.execute(SQL.await_disk)
        (row,) = await db.fetch("SELECT pg_current_wal_flush_lsn() >= $1 AS is_on_disk", written["lsn"])
        assert row["is_on_disk"]
