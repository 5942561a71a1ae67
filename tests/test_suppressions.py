"""Suppression lists over a real database and vault: found in every spelling, by every process, at every moment."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import NotFound
from email_gateway.mail.addresses import InvalidAddress, canonical_address
from email_gateway.store.database import Database, Queries
from email_gateway.store.pages import Page
from email_gateway.store.suppressions import Reason, prune_suppressions
from email_gateway.suppressions import Entry, Suppressions
from email_gateway.vault.keyring import Keyring
from tests.marks import MARK

pytestmark = pytest.mark.anyio

ADDRESS = f"{MARK.lower()}@example.net"


@pytest.fixture
def suppressions(db: Database, keyring: Keyring) -> Suppressions:
    return Suppressions(db, keyring)


def soon(hours: float = 1) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


async def expire(db: Database) -> None:
    await db.execute("UPDATE suppression SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL")


async def test_an_address_is_found_in_every_spelling_and_opens_as_it_was_given(
    suppressions: Suppressions, tenant_id: UUID
) -> None:
    source = uuid4()
    entry = Entry("José@BÜCHER.example", Reason.COMPLAINT, source_id=source, note="ticket 12")
    ((suppression_id, is_new),) = await suppressions.add(tenant_id, [entry])
    assert is_new
    for spelling in ("josé@bücher.example", "JOSE\u0301@xn--bcher-kva.example"):
        found = await suppressions.find(tenant_id, spelling)
        assert (found.suppression_id, found.address, found.note) == (suppression_id, entry.address, "ticket 12")
        assert (found.reason, found.source_id, found.expires_at) == (Reason.COMPLAINT, source, None)
        assert await suppressions.find_reasons(tenant_id, [spelling, "jose@bücher.example"]) == [
            Reason.COMPLAINT,
            None,
        ]
    assert entry.address not in repr(found) + repr(entry)


async def test_adding_again_keeps_the_suppression_for_the_longer_of_both_times(
    suppressions: Suppressions, tenant_id: UUID
) -> None:
    first, late = soon(1), soon(2)
    ((suppression_id, _),) = await suppressions.add(tenant_id, [Entry(ADDRESS, expires_at=first)])
    for expires_at, expected in ((late, late), (first, late), (None, None), (late, None)):
        added = await suppressions.add(tenant_id, [Entry(ADDRESS.upper(), Reason.BOUNCE, expires_at=expires_at)])
        assert added == [(suppression_id, False)]
        found = await suppressions.get(tenant_id, suppression_id)
        assert (found.expires_at, found.reason, found.address) == (expected, Reason.MANUAL, ADDRESS)


async def test_of_an_address_that_is_given_twice_the_first_counts(suppressions: Suppressions, tenant_id: UUID) -> None:
    one, two = await suppressions.add(tenant_id, [Entry(ADDRESS, note="1"), Entry(ADDRESS.upper(), note="2")])
    assert one == two
    assert (await suppressions.get(tenant_id, one[0])).note == "1"


async def test_what_has_expired_is_gone_and_may_be_added_anew(
    db: Database, suppressions: Suppressions, tenant_id: UUID
) -> None:
    ((old, _),) = await suppressions.add(tenant_id, [Entry(ADDRESS, Reason.BOUNCE, expires_at=soon())])
    assert await suppressions.find_reasons(tenant_id, [ADDRESS]) == [Reason.BOUNCE]
    await expire(db)
    assert await suppressions.find_reasons(tenant_id, [ADDRESS]) == [None]
    assert await suppressions.list_page(tenant_id, Page()) == ([], False)
    with pytest.raises(NotFound):
        await suppressions.find(tenant_id, ADDRESS)
    with pytest.raises(NotFound):
        await suppressions.get(tenant_id, old)
    ((new, is_new),) = await suppressions.add(tenant_id, [Entry(ADDRESS)])
    assert is_new
    assert await suppressions.remove(tenant_id, [old, new, new]) == [new]

    await suppressions.add(tenant_id, [Entry(ADDRESS, expires_at=soon()), Entry("stays@example.net")])
    await expire(db)
    await prune_suppressions(db)
    assert [row["n"] for row in await db.fetch("SELECT count(*) AS n FROM suppression_index")] == [1]
    assert await suppressions.remove(tenant_id, [new]) == []


async def test_nobody_sees_or_ends_what_another_tenant_suppresses(
    db: Database, suppressions: Suppressions, tenant_id: UUID
) -> None:
    other = uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    ((suppression_id, _),) = await suppressions.add(tenant_id, [Entry(ADDRESS)])
    assert await suppressions.find_reasons(other, [ADDRESS]) == [None]
    assert await suppressions.find_ids(other, [ADDRESS]) == [None]
    assert await suppressions.remove(other, [suppression_id]) == []
    with pytest.raises(NotFound):
        await suppressions.get(other, suppression_id)
    assert await suppressions.list_page(other, Page()) == ([], False)


async def test_pages_follow_each_other_both_ways(suppressions: Suppressions, tenant_id: UUID) -> None:
    entries = [Entry(f"{n}@example.net", Reason.BOUNCE if n % 2 else Reason.UNSUBSCRIBE) for n in range(7)]
    ids = [(await suppressions.add(tenant_id, [entry]))[0][0] for entry in entries][::-1]
    first, has_more = await suppressions.list_page(tenant_id, Page(3))
    assert ([one.suppression_id for one in first], has_more) == (ids[:3], True)
    second, has_more = await suppressions.list_page(tenant_id, Page(4, after=ids[2]))
    assert ([one.suppression_id for one in second], has_more) == (ids[3:], False)
    back, has_more = await suppressions.list_page(tenant_id, Page(2, before=ids[3]))
    assert ([one.suppression_id for one in back], has_more) == (ids[1:3], True)
    bounced, _ = await suppressions.list_page(tenant_id, Page(), [Reason.BOUNCE])
    assert [one.address for one in bounced] == ["5@example.net", "3@example.net", "1@example.net"]


async def test_what_is_no_address_is_refused_and_nothing_of_the_batch_is_added(
    suppressions: Suppressions, tenant_id: UUID
) -> None:
    with pytest.raises(InvalidAddress):
        await suppressions.add(tenant_id, [Entry(ADDRESS), Entry("nowhere")])
    assert await suppressions.find_ids(tenant_id, [ADDRESS]) == [None]


async def test_twenty_who_add_the_same_addresses_at_once_agree(
    db: Database, suppressions: Suppressions, tenant_id: UUID
) -> None:
    entries = [Entry(f"{n}@example.net") for n in range(5)]
    turned = [entries if n % 2 else entries[::-1] for n in range(20)]
    added = await asyncio.gather(*(suppressions.add(tenant_id, given) for given in turned))
    ids = {frozenset(suppression_id for suppression_id, _ in one) for one in added}
    assert len(ids) == 1
    assert sum(is_new for one in added for _, is_new in one) == 5
    assert len(await db.fetch("SELECT FROM suppression")) == 5


@pytest.mark.parametrize("seed", range(3))
async def test_the_list_is_what_a_set_of_canonical_addresses_would_be(
    suppressions: Suppressions, tenant_id: UUID, seed: int
) -> None:
    chosen = random.Random(seed)
    addresses = [f"{local}{n}@{domain}" for local in ("Ana", "ANA", "jose\u0301", "JOSÉ", "a+b") for n in range(3)
                 for domain in ("example.net", "BÜCHER.example")]  # fmt: skip
    expected: set[bytes] = set()
    for _ in range(10):
        some = chosen.sample(addresses, 5)
        if chosen.random() < 0.6:
            await suppressions.add(tenant_id, [Entry(address) for address in some])
            expected |= set(map(canonical_address, some))
        else:
            found = await suppressions.find_ids(tenant_id, some)
            await suppressions.remove(tenant_id, [one for one in found if one is not None])
            expected -= set(map(canonical_address, some))
        reasons = await suppressions.find_reasons(tenant_id, addresses)
        assert [reason is not None for reason in reasons] == [canonical_address(one) in expected for one in addresses]


async def test_a_list_of_thousands_is_found_by_its_index_though_the_plan_was_made_for_none(
    db: Database, suppressions: Suppressions, tenant_id: UUID
) -> None:
    await suppressions.add(tenant_id, [Entry(ADDRESS)])
    await db.execute("ANALYZE suppression, suppression_index")  # of one page each
    for _ in range(7):  # until a plan is kept
        await suppressions.find_reasons(tenant_id, [ADDRESS])
    await suppressions.add(tenant_id, [Entry(f"{n}@example.net") for n in range(3_000)])
    keys = await suppressions._keyring.tenant(tenant_id)
    asked = (tenant_id, keys.index_key_id, keys.blind("address", 0, canonical_address(ADDRESS)))
    looked = "SELECT suppressed_for($1, $2, $3) AS reason FROM generate_series(1, 100)"
    async with db.transaction() as transaction:
        before = await count_scans(transaction)
        assert {row["reason"] for row in await transaction.fetch(looked, *asked)} == {"manual"}
        assert await count_scans(transaction) == before


async def count_scans(db: Queries) -> int:
    row = await db.fetch_one("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'suppression_index'")
    return int(row["seq_scan"]) if row else 0
