"""What the metrics of a real fleet show when a secret goes stale, access is denied, processes disagree, a rotation fails."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from email_gateway.fleet import watching
from email_gateway.fleet.following import LIVE_FOR
from email_gateway.fleet.watching import OVERDUE_AFTER, keep_figures, show_figures
from email_gateway.observe import REGISTRY
from email_gateway.secrets.secret import MOST_AGE
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.figures import read_figures
from email_gateway.vault.adoption import stage
from tests.api.test_keys import put_pending
from tests.fault_proxy import EVERY, Fault
from tests.fleet.conftest import Join, Member
from tests.fleet.test_refreshing import NEW_KEY
from tests.makers import new_request
from tests.plugins.secrets_manager import Aws, Start
from tests.secrets.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

ANOTHER_KEY = "MARK-another-key-9c9c9c9c-1b1b-4c4c-8d8d-0123456789"


def shown(metric: str, /, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"email_gateway_{metric}", labels)


async def show(db: Database, member: Member) -> None:
    show_figures(await read_figures(db, LIVE_FOR), member.keyring)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a metric tells nobody
            await asyncio.sleep(0.01)


async def test_a_secret_that_goes_stale_shows_its_age_in_lifetimes(aws: Aws, start: Start, clock: FakeClock) -> None:
    service = await start()
    lifetime = shown("secrets_lifetime_seconds")
    assert lifetime == 300
    assert shown("secret_stale", name="encryption-key") == 0
    aws.proxy.faults[EVERY] = Fault.RESET
    await clock.advance(2 * lifetime + 1)
    assert shown("secret_stale", name="encryption-key") == 1
    assert (shown("secrets_age_seconds", name="encryption-key") or 0) / lifetime > 2
    aws.proxy.faults.clear()
    await service.refresh()
    assert shown("secret_stale", name="encryption-key") == 0


async def test_access_that_is_denied_is_counted_by_secret(aws: Aws, join: Join) -> None:
    member = await join(is_following=False)
    before = shown("secret_refresh_total", name="admin-api-key", result="denied")
    aws.proxy.faults["admin-api-key"] = Fault.DENIED
    await member.secrets.refresh()
    assert before is not None
    assert shown("secret_refresh_total", name="admin-api-key", result="denied") == before + 1
    assert shown("secret_alert", name="admin-api-key") == 1


async def test_a_process_that_did_not_follow_disagrees_until_it_does(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    first, deaf = await join(is_following=False), await join("worker", is_following=False)
    await show(db, first)
    assert (shown("processes", kind="api"), shown("processes", kind="worker")) == (1, 1)
    assert shown("processes_disagreeing") == 0
    aws.put("encryption-key", NEW_KEY)
    await first.secrets.refresh()
    await first.fleet.look()
    await show(db, first)
    assert shown("processes_disagreeing") == 1
    assert (shown("root_keys", state="active"), shown("root_keys", state="retiring")) == (1, 1)
    assert shown("root_keys_held") == 2
    await deaf.fleet.look()
    await show(db, first)
    assert shown("processes_disagreeing") == 0


async def test_another_version_of_the_admin_key_is_a_disagreement_too(aws: Aws, db: Database, join: Join) -> None:
    first, deaf = await join(is_following=False), await join("worker", is_following=False)
    aws.put("admin-api-key", "MARK-another-admin-55aa1c3e-0f0f-4e6d-a1a1-01234567")
    await first.secrets.refresh()
    await first.fleet.look()
    await show(db, first)
    assert shown("processes_disagreeing") == 1
    await deaf.secrets.refresh()  # as it does by itself, before its cache ends
    await deaf.fleet.look()
    await show(db, first)
    assert shown("processes_disagreeing") == 0


async def test_keys_in_use_are_counted(aws: Aws, db: Database, join: Join, tenant_id: UUID) -> None:
    member = await join(is_following=False)
    await member.keyring.tenant(tenant_id)
    await show(db, member)
    assert (shown("data_keys_held", purpose="field"), shown("data_keys_held", purpose="index")) == (1, 1)


async def test_a_rotation_is_in_progress_then_failed_and_ends_with_another_root(
    aws: Aws, db: Database, join: Join
) -> None:
    member = await join(is_following=False)
    await stage(db, member.keyring.roots, put_pending(aws))
    await show(db, member)
    assert shown("rotation", name="encryption-key", state="in_progress") == 1
    assert shown("rotation", name="encryption-key", state="failed") == 0
    assert shown("root_keys", state="pending") == 1
    await db.execute("UPDATE crypto_root SET activated_at = now() - interval '1 day' WHERE state = 'active'")
    await db.execute("UPDATE crypto_root SET created_at = now() - interval '61 minutes' WHERE state = 'pending'")
    await show(db, member)
    assert shown("rotation", name="encryption-key", state="in_progress") == 0
    assert shown("rotation", name="encryption-key", state="failed") == 1
    aws.put("encryption-key", ANOTHER_KEY)
    await member.secrets.refresh()
    await member.fleet.look()
    await show(db, member)
    assert shown("rotation", name="encryption-key", state="failed") == 0


@pytest.mark.parametrize("name", MOST_AGE)
async def test_a_rotation_is_overdue_a_day_after_the_policy_asks_for_it(
    aws: Aws, db: Database, join: Join, name: str
) -> None:
    member = await join(is_following=False)
    age = MOST_AGE[name] + OVERDUE_AFTER  # type: ignore[index]
    for more, overdue in ((timedelta(hours=-1), 0), (timedelta(hours=1), 1)):
        await db.execute(
            "UPDATE secret_version SET current_since = now() - $2::interval WHERE name = $1", name, age + more
        )
        await show(db, member)
        assert shown("rotation", name=name, state="overdue") == overdue
    assert shown("secret_version_age_seconds", name=name) == pytest.approx(
        (age + timedelta(hours=1)).total_seconds(), abs=60
    )


async def test_dead_letters_and_the_age_of_the_queue_show(aws: Aws, db: Database, join: Join, tenant_id: UUID) -> None:
    member = await join(is_following=False)
    acceptor = Acceptor(db)
    await acceptor.accept(new_request(tenant_id))
    await db.execute("UPDATE delivery SET next_attempt_at = now() - interval '1 hour'")
    await show(db, member)
    assert shown("queue_age_seconds") == pytest.approx(3600, abs=60)
    await db.execute("UPDATE delivery SET state = 'dead', next_attempt_at = NULL, finished_at = now()")
    await show(db, member)
    assert (shown("dead_letters"), shown("queue_age_seconds")) == (1, 0)


async def test_every_process_reads_the_figures_by_itself_and_their_age_goes_on_in_an_outage(
    aws: Aws, db: Database, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READ_EVERY", timedelta(milliseconds=20))
    member = await join()
    await wait_until(lambda: (shown("fleet_figures_age_seconds") or 0) < 1)
    await member.fleet.close()  # nobody reads any more
    before = shown("fleet_figures_age_seconds")
    await asyncio.sleep(0.05)
    assert before is not None
    assert before < (shown("fleet_figures_age_seconds") or 0)


async def test_neither_a_database_that_is_away_nor_an_accident_ends_the_reading(
    aws: Aws, db: Database, database_url: str, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READ_EVERY", timedelta(milliseconds=5))
    member = await join(is_following=False)
    own = await Database.connect(database_url, pool_size=1)
    await db.execute("ALTER TABLE crypto_root RENAME TO moved")
    reading = asyncio.create_task(keep_figures(own, member.keyring, LIVE_FOR))
    await asyncio.sleep(0.2)
    assert shown("fleet_figures_age_seconds") == math.inf
    await db.execute("ALTER TABLE moved RENAME TO crypto_root")
    await wait_until(lambda: shown("fleet_figures_age_seconds") != math.inf)
    await own.close()
    await wait_until(lambda: (shown("fleet_figures_age_seconds") or 0) > 0.1)
    assert not reading.done()
    reading.cancel()
