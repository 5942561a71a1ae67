"""What a process does by itself: it adopts a new root, fetches one it lacks, and tells what it holds."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from email_gateway.fleet.following import LIVE_FOR
from email_gateway.observe import REGISTRY
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, bump_generation
from email_gateway.store.instances import list_instances
from email_gateway.vault.roots import derive_root
from tests.fault_proxy import EVERY, Fault
from tests.fleet.conftest import Join, Member
from tests.fleet.test_refreshing import NEW_KEY
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio

FIELD = "message.content"
OLD_ROOT = derive_root(VALUES["encryption-key"], VALUES["encryption-salt"])
NEW_ROOT = derive_root(NEW_KEY, VALUES["encryption-salt"])


async def seal(member: Member, tenant_id: UUID) -> tuple[UUID, UUID, bytes]:
    row = uuid4()
    return tenant_id, row, (await member.keyring.tenant(tenant_id)).seal(FIELD, row, b"sealed")


async def opens(member: Member, value: tuple[UUID, UUID, bytes]) -> bool:
    tenant_id, row, sealed = value
    return await member.keyring.open(tenant_id, FIELD, row, sealed) == b"sealed"


async def active_root(db: Database) -> bytes:
    return next(root.root_id for root in await store.list_roots(db) if root.state == "active")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until an asynchronous condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)


async def test_a_changed_key_is_adopted_by_whoever_reads_it_and_followed_by_the_others(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    first, second = await join(), await join("worker")
    value = await seal(first, tenant_id)
    aws.put("encryption-key", NEW_KEY)
    await first.secrets.refresh()

    async def both_hold_it() -> bool:
        return all(NEW_ROOT.root_id in each.keyring.roots for each in (first, second))

    await until(both_hold_it)
    assert await active_root(db) == NEW_ROOT.root_id
    assert await opens(second, value)
    assert await opens(await join(), value)


async def test_a_process_that_lacks_the_active_root_fetches_it_by_its_versions_and_reads_its_secrets(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    first, deaf = await join(), await join("worker", is_following=False)
    aws.put("encryption-key", NEW_KEY)
    await first.secrets.refresh()
    await first.fleet.look()
    value = await seal(first, tenant_id)
    assert NEW_ROOT.root_id not in deaf.keyring.roots
    assert await opens(deaf, value)  # no look was needed: the key's wrap names the root
    await deaf.fleet.look()
    assert deaf.secrets.get("encryption-key").value == NEW_KEY


async def test_a_process_without_secrets_manager_goes_on_with_what_it_held(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    # Neither looks by itself: the metric is the whole process's, and this one plays both.
    first, dark = await join(is_following=False), await join("worker", is_following=False)
    value = await seal(dark, tenant_id)
    aws.put("encryption-key", NEW_KEY)
    await first.secrets.refresh()
    await first.fleet.look()
    aws.proxy.faults[EVERY] = Fault.RESET
    await dark.fleet.look()
    assert await opens(dark, value)
    assert REGISTRY.get_sample_value("email_gateway_root_key_alert") == 1.0
    row = next(each for each in await list_instances(db, LIVE_FOR) if each.process == "worker")
    assert row.standing.active_root is None
    aws.proxy.faults.clear()
    dark.keyring.roots._failed_at.clear()
    await dark.fleet.look()
    assert NEW_ROOT.root_id in dark.keyring.roots
    assert REGISTRY.get_sample_value("email_gateway_root_key_alert") == 0.0


async def test_the_same_values_put_again_are_the_same_root_under_new_versions(
    aws: Aws, db: Database, join: Join
) -> None:
    member = await join()
    version = aws.put("encryption-key", VALUES["encryption-key"])
    await member.secrets.refresh()
    await member.fleet.look()
    (root,) = await store.list_roots(db)
    assert (root.root_id, root.key_version_id) == (OLD_ROOT.root_id, version)


async def test_an_adoption_that_fails_is_tried_again_and_shown(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    member = await join(is_following=False)
    value = await seal(member, tenant_id)
    flip = "UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)"
    await db.execute(flip)
    aws.put("encryption-key", NEW_KEY)
    await member.secrets.refresh()
    await member.fleet.look()
    assert await active_root(db) == OLD_ROOT.root_id
    assert REGISTRY.get_sample_value("email_gateway_root_key_alert") == 1.0
    assert await opens(member, value)  # what is loaded stays
    await db.execute(flip)
    await member.fleet.look()
    assert await active_root(db) == NEW_ROOT.root_id
    assert REGISTRY.get_sample_value("email_gateway_root_key_alert") == 0.0


async def test_a_notification_is_followed_at_once(db: Database, join: Join) -> None:
    member = await join()
    generation = await bump_generation(db, Subject.KEYS)

    async def followed() -> bool:
        return (await list_instances(db, LIVE_FOR))[0].standing.keys_generation == generation

    await until(followed)
    assert member.fleet.identity.process == "api"


async def test_a_process_writes_down_who_it_is_and_what_it_holds(aws: Aws, db: Database, join: Join) -> None:
    member = await join("worker")
    (row,) = await list_instances(db, LIVE_FOR)
    assert (row.instance, row.process, row.pid) == (
        member.fleet.identity.instance,
        "worker",
        member.fleet.identity.pid,
    )
    assert list(row.standing.roots_held) == [OLD_ROOT.root_id]
    assert row.standing.active_root == OLD_ROOT.root_id
    assert row.standing.secret_versions == aws.versions
    assert row.standing.failures == {}


async def test_a_process_that_ends_in_order_is_not_waited_for(db: Database, join: Join) -> None:
    member = await join()
    await member.fleet.close()
    assert await list_instances(db, LIVE_FOR) == []


async def test_silent_processes_are_forgotten_after_a_week(db: Database, join: Join) -> None:
    await db.execute(
        "INSERT INTO crypto_instance (instance, roots_held, release, seen_at)"
        " VALUES (gen_random_uuid(), '{}', '0', now() - interval '8 days'),"
        " (gen_random_uuid(), '{}', '0', now() - interval '6 days')"
    )
    await join()
    assert len(await db.fetch("SELECT FROM crypto_instance")) == 2


async def test_a_changed_canary_of_the_active_root_silences_no_process(
    aws: Aws, db: Database, join: Join, tenant_id: UUID
) -> None:
    first, deaf = await join(is_following=False), await join("worker", is_following=False)
    value = await seal(deaf, tenant_id)
    aws.put("encryption-key", NEW_KEY)
    await first.secrets.refresh()
    await first.fleet.look()
    await db.execute("UPDATE crypto_root SET canary = set_byte(canary, 50, 0) WHERE state = 'active'")
    await deaf.fleet.look()
    row = next(each for each in await list_instances(db, LIVE_FOR) if each.process == "worker")
    assert row.standing.active_root == NEW_ROOT.root_id  # its name is its content: the secrets prove it
    assert await opens(deaf, value)
