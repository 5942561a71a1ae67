"""Quotas over a real database, and a real Redis that is killed, stopped, flushed and comes back."""

import asyncio
import os
import signal
from collections.abc import Callable
from uuid import UUID

import pytest

from email_gateway.errors import DatabaseUnavailable, QuotaExceeded, RateLimited
from email_gateway.limits import link as links
from email_gateway.limits import quotas as module
from email_gateway.limits.link import RedisLink
from email_gateway.limits.quotas import Quotas
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.quotas import Allowance, find_use, set_allowance
from email_gateway.store.statistics import fold_tallies
from tests.limits.conftest import Server
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

DAILY = Allowance(daily_quota=100)


class Process:
    """An api process in miniature: it accepts within the tenant's quotas."""

    def __init__(
        self, db: Database, tenant_id: UUID, allowance: Allowance = DAILY, link: RedisLink | None = None
    ) -> None:
        self.quotas = Quotas(db, allowance, link)
        self._acceptor = Acceptor(db)
        self._tenant_id = tenant_id

    async def send(self, recipients: int = 1) -> None:
        account = await self.quotas.take(self._tenant_id, recipients)
        with self.quotas.settling(account, recipients):
            message = new_message(domains=("example.net",) * recipients)
            await self._acceptor.accept(new_request(self._tenant_id, message))

    async def send_many(self, count: int, recipients: int = 1) -> int:
        """Send so many mails and return how many were accepted."""

        async def sent() -> bool:
            try:
                await self.send(recipients)
            except RateLimited:
                return False
            return True

        return sum(await asyncio.gather(*(sent() for _ in range(count))))


async def used_today(db: Database, tenant_id: UUID) -> int:
    return (await find_use(db, [tenant_id]))[tenant_id].today


async def test_one_process_accepts_the_quota_to_its_last_recipient(db: Database, tenant_id: UUID) -> None:
    process = Process(db, tenant_id)
    assert await process.send_many(90) == 90
    with pytest.raises(QuotaExceeded) as exceeded:
        await process.send(11)
    assert exceeded.value.code == "daily_quota_exceeded"
    assert 1 <= exceeded.value.retry_after_seconds <= 24 * 3600
    await process.send(10)  # what was refused has used nothing
    assert await process.send_many(3) == 0
    assert await used_today(db, tenant_id) == 100


async def test_another_process_and_the_next_start_know_what_was_used(db: Database, tenant_id: UUID) -> None:
    assert await Process(db, tenant_id).send_many(70) == 70
    await fold_tallies(db)
    assert await Process(db, tenant_id).send_many(20) == 20  # one of it is folded, one is not
    assert await Process(db, tenant_id).send_many(20) == 10


async def test_the_month_is_counted_beside_the_day_and_yesterday_is_over(db: Database, tenant_id: UUID) -> None:
    await db.execute(
        "INSERT INTO daily_use SELECT $1, day::date, 60 FROM generate_series("
        "date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 day', now() AT TIME ZONE 'UTC', '1 day') AS day",
        tenant_id,
    )
    use = (await find_use(db, [tenant_id]))[tenant_id]
    assert use.today == 60
    assert (
        use.this_month == 60 * use.day_ends_at.day or use.this_month % 60 == 0
    )  # the month's last day ends in the next
    process = Process(db, tenant_id, Allowance(daily_quota=1_000, monthly_quota=use.this_month + 5))
    assert await process.send_many(8) == 5
    with pytest.raises(QuotaExceeded) as exceeded:
        await process.send()
    assert exceeded.value.code == "monthly_quota_exceeded"
    assert use.at < use.day_ends_at <= use.month_ends_at


async def test_what_retention_removes_was_used_all_the_same(db: Database, tenant_id: UUID) -> None:
    await Process(db, tenant_id).send_many(10)
    await fold_tallies(db)
    await db.execute("DELETE FROM message")
    await db.execute("DELETE FROM delivery")
    await fold_tallies(db)
    assert await used_today(db, tenant_id) == 10


async def test_without_a_quota_nothing_is_counted_against_anybody(db: Database, tenant_id: UUID) -> None:
    process = Process(db, tenant_id, Allowance())
    assert await process.send_many(5, recipients=50) == 5
    assert (await process.quotas.get(tenant_id)).quotas == []


async def test_what_an_operator_chose_goes_before_the_settings_and_zero_is_no_limit(
    db: Database, tenant_id: UUID
) -> None:
    process = Process(db, tenant_id)
    await set_allowance(db, tenant_id, Allowance(daily_quota=2))
    assert await process.send_many(3) == 2
    await set_allowance(db, tenant_id, Allowance(daily_quota=0))
    await process.quotas.refresh()
    assert await process.send_many(3) == 3
    await set_allowance(db, tenant_id, Allowance())
    await process.quotas.refresh()
    assert await process.send_many(99) == 95


async def test_an_accept_that_fails_gives_back_what_it_took(db: Database, tenant_id: UUID) -> None:
    process = Process(db, tenant_id)
    account = await process.quotas.take(tenant_id, 60)
    with pytest.raises(DatabaseUnavailable), process.quotas.settling(account, 60):
        raise DatabaseUnavailable("x")
    await process.quotas.refresh()
    assert await process.send_many(100) == 100


async def test_several_processes_without_redis_never_go_beyond_the_quota(
    db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = [Process(db, tenant_id) for _ in range(4)]
    for process in fleet:
        process.quotas.processes = 4
    for _ in range(30):
        await asyncio.gather(*(process.send_many(10) for process in fleet))
        for process in fleet:
            await process.quotas.refresh()
    used = await used_today(db, tenant_id)
    assert 100 - 2 * 4 < used <= 100
    with pytest.raises(QuotaExceeded):
        await fleet[0].send()


async def test_a_share_that_is_spent_for_now_is_told_from_a_quota_that_is(db: Database, tenant_id: UUID) -> None:
    process = Process(db, tenant_id)
    process.quotas.processes = 2
    assert await process.send_many(30) == 25
    with pytest.raises(RateLimited) as limited:
        await process.send()
    assert (limited.value.code, limited.value.retry_after_seconds) == ("rate_limit_exceeded", 1)


async def test_while_the_database_is_away_what_is_known_goes_on_counting(
    db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(db, tenant_id)
    await process.send_many(60)
    away = DatabaseUnavailable("away")

    async def fail(*_: object) -> None:
        raise away

    monkeypatch.setattr(module, "find_allowances", fail)
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    monkeypatch.setattr(module, "READ_EVERY_SECONDS", 0.0)
    account = await process.quotas.take(tenant_id, 40)
    account.taken += 40
    with pytest.raises(QuotaExceeded):
        await process.quotas.take(tenant_id, 1)
    with pytest.raises(DatabaseUnavailable):
        await Process(db, tenant_id).quotas.take(tenant_id, 1)


async def test_who_asks_no_more_is_forgotten(db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(db, tenant_id)
    await process.send()
    monkeypatch.setattr(module, "FORGET_SECONDS", -1.0)
    await process.quotas.refresh()
    assert process.quotas._accounts == {}


@pytest.mark.needs("redis-server")
async def test_with_redis_processes_that_send_at_once_accept_exactly_the_quota(
    db: Database, tenant_id: UUID, link: Callable[[], RedisLink]
) -> None:
    fleet = [Process(db, tenant_id, link=link()) for _ in range(3)]
    for process in fleet:
        process.quotas.processes = 3
    accepted = await asyncio.gather(*(process.send_many(20, recipients=3) for process in fleet))
    assert sum(accepted) == 33
    assert await fleet[0].send_many(3) == 1
    assert await used_today(db, tenant_id) == 100


@pytest.mark.needs("redis-server")
async def test_what_was_given_back_may_be_taken_by_another(
    db: Database, tenant_id: UUID, link: Callable[[], RedisLink]
) -> None:
    one, two = Process(db, tenant_id, link=link()), Process(db, tenant_id, link=link())
    account = await one.quotas.take(tenant_id, 100)
    with pytest.raises(QuotaExceeded):
        await two.send()
    await one.quotas.give_back(tenant_id, account, 100)
    assert await two.send_many(101) == 100


@pytest.mark.needs("redis-server")
async def test_a_flushed_redis_is_put_right_by_the_totals(
    db: Database, tenant_id: UUID, link: Callable[[], RedisLink]
) -> None:
    way = link()
    fleet = [Process(db, tenant_id, link=way), Process(db, tenant_id, link=link())]
    assert await fleet[0].send_many(80) == 80
    await way.redis.flushall()
    for process in fleet:
        await process.quotas.refresh()
    assert sum(await asyncio.gather(*(process.send_many(30) for process in fleet))) == 20
    assert await used_today(db, tenant_id) == 100


@pytest.mark.needs("redis-server")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_its_redis_the_fleet_goes_on_with_shares_and_never_beyond(
    db: Database, tenant_id: UUID, redis: Server, link: Callable[[], RedisLink], monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
) -> None:  # fmt: skip
    monkeypatch.setattr(links, "REDIS_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(links, "REDIS_RETRY_SECONDS", 3600.0)
    fleet = [Process(db, tenant_id, link=link()) for _ in range(2)]
    for process in fleet:
        process.quotas.processes = 2
    assert await fleet[0].send_many(40) == 40
    os.kill(redis[1].pid, how)
    accepted = 40
    for _ in range(15):
        accepted += sum(await asyncio.gather(*(process.send_many(20) for process in fleet)))
        for process in fleet:
            await process.quotas.refresh()
    assert 100 - 2 * 2 < accepted <= 100
    assert await used_today(db, tenant_id) == accepted


@pytest.mark.needs("redis-server")
async def test_a_redis_that_missed_an_hour_counts_no_less_than_the_totals(
    db: Database, tenant_id: UUID, link: Callable[[], RedisLink]
) -> None:
    with_redis, without = Process(db, tenant_id, link=link()), Process(db, tenant_id)
    assert await with_redis.send_many(10) == 10
    assert await without.send_many(85) == 85  # as one whose Redis is away
    await with_redis.quotas.refresh()
    assert await with_redis.send_many(10) == 5
