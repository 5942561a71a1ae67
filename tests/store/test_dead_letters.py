import asyncio
import uuid

import pytest

from email_gateway.errors import NotFound
from email_gateway.store.accepting import Acceptor
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.dead_letters import (
    DeadFilter,
    DeliveryId,
    count_dead_letters,
    discard_dead_letters,
    get_dead_letter,
    list_dead_letters,
    retry_dead_letter,
    retry_dead_letters,
)
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio


async def make_dead(db: Database, tenant_id: uuid.UUID, count: int, *, recipients: int = 1) -> list[DeliveryId]:
    """Store messages, all of whose deliveries are dead; newest first."""
    messages = [new_message(domains=("example.net",) * recipients) for _ in range(count)]
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id, *messages))
    await acceptor.close()
    await db.execute("UPDATE delivery SET state = 'dead', next_attempt_at = NULL, finished_at = now(), crashes = 5")
    ids = [DeliveryId(m.message_id, position) for m in messages for position in range(recipients)]
    return sorted(ids, key=lambda one: (one.message_id, one.recipient), reverse=True)


@pytest.mark.parametrize(
    "text", ["", "-", "x-0", f"{uuid.UUID(int=7)}", f"{uuid.UUID(int=7)}-", f"{uuid.UUID(int=7)}-x",
             f"{uuid.UUID(int=7)}--1", f"{{{uuid.UUID(int=7)}}}-0", f"{uuid.UUID(int=7)}-100", f"{uuid.UUID(int=7)}-٣"]
)  # fmt: skip
def test_what_is_no_delivery_id_names_nothing(text: str) -> None:
    with pytest.raises(NotFound):
        DeliveryId.parse(text)


def test_a_delivery_id_reads_back() -> None:
    delivery_id = DeliveryId(uuid.UUID(int=7), 49)
    assert DeliveryId.parse(str(delivery_id)) == delivery_id


async def test_pages_follow_each_other_across_the_recipients_of_a_message(db: Database, tenant_id: uuid.UUID) -> None:
    dead = await make_dead(db, tenant_id, 3, recipients=3)
    seen: list[DeliveryId] = []
    has_more = True
    while has_more:
        page, has_more = await list_dead_letters(db, DeadFilter(), limit=2, after=seen[-1] if seen else None)
        seen += [letter.delivery_id for letter in page]
    assert seen == dead


async def test_an_empty_queue_counts_nothing(db: Database) -> None:
    stats = await count_dead_letters(db)
    assert (stats.total, stats.by_reason, stats.by_domain, stats.oldest_at) == (0, (), (), None)


async def test_a_retried_letter_starts_without_its_crashes(db: Database, tenant_id: uuid.UUID) -> None:
    (dead,) = await make_dead(db, tenant_id, 1)
    await retry_dead_letter(db, dead, actor="cli:ana")
    row = await db.fetch_one("SELECT state, crashes, finished_at, next_attempt_at <= now() AS is_due FROM delivery")
    assert row is not None
    assert tuple(row) == ("queued", 0, None, True)
    with pytest.raises(NotFound):
        await get_dead_letter(db, dead)


async def test_a_filter_keeps_to_its_tenant(db: Database, tenant_id: uuid.UUID) -> None:
    await make_dead(db, tenant_id, 2)
    assert await discard_dead_letters(db, DeadFilter(tenant_id=uuid.uuid4()), actor="test") == 0
    assert await discard_dead_letters(db, DeadFilter(tenant_id=tenant_id), actor="test") == 2
    assert [entry.subject for entry in await list_audit(db)] == ["2 deliveries by filter", "0 deliveries by filter"]


async def test_operators_who_retry_at_once_change_each_letter_once(db: Database, tenant_id: uuid.UUID) -> None:
    dead = await make_dead(db, tenant_id, 20, recipients=2)
    changed = await asyncio.gather(*(retry_dead_letters(db, DeadFilter(), actor=f"op{n}") for n in range(5)))
    assert sum(changed) == len(dead)
    row = await db.fetch_one("SELECT count(*) AS events FROM event WHERE kind = 'retried'")
    assert row is not None
    assert row["events"] == len(dead)
