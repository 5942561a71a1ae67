"""One wish, read by every process: who followed, who did not, and what each holds."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from email_gateway.errors import RateLimited
from email_gateway.fleet import Acknowledgement, acknowledgements, refresh_fleet
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from tests.fault_proxy import EVERY, Fault
from tests.fleet.conftest import Join
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio

NEW_KEY = "MARK-new-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789ab"
NEW_ADMIN = "MARK-new-admin-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"
NO_TIME = timedelta(seconds=0.1)  # for answers that do not come, or that the test awaits itself


async def answered(
    db: Database, generation: int, has_come: Callable[[Acknowledgement], bool]
) -> tuple[Acknowledgement, ...]:
    """What every process holds, once all have come to what the test awaits, however busy the machine is."""
    async with asyncio.timeout(20):
        while not all(map(has_come, answers := await acknowledgements(db, generation))):  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)
    return answers


async def test_a_refresh_reaches_every_process_and_says_what_each_holds(aws: Aws, db: Database, join: Join) -> None:
    members = [await join("api"), await join("api"), await join("worker")]
    version = aws.put("encryption-key", NEW_KEY)
    done = await refresh_fleet(members[0].fleet, actor="test")
    assert done.complete
    assert sorted(each.process for each in done.instances) == ["api", "api", "worker"]
    assert {each.versions["encryption-key"] for each in done.instances} == {version}
    assert {member.secrets.get("encryption-key").value for member in members} == {NEW_KEY}


async def test_a_process_that_does_not_follow_is_named(aws: Aws, db: Database, join: Join) -> None:
    asking, deaf = await join("api"), await join("worker", is_following=False)
    aws.put("encryption-key", NEW_KEY)
    done = await refresh_fleet(asking.fleet, actor="test", wait=NO_TIME)
    assert not done.complete
    answers = await answered(db, done.generation, lambda each: each.process == "worker" or each.acknowledged)
    assert {each.process: each.acknowledged for each in answers} == {"api": True, "worker": False}
    await deaf.fleet.look()
    assert all(each.acknowledged for each in await acknowledgements(db, done.generation))


async def test_a_refresh_that_no_process_answers_is_not_complete(db: Database, join: Join) -> None:
    member = await join(is_following=False)
    await db.execute("DELETE FROM crypto_instance")  # a heartbeat that never arrived
    done = await refresh_fleet(member.fleet, actor="test", wait=NO_TIME)
    assert done.instances == ()
    assert not done.complete


async def test_a_process_that_cannot_read_its_secrets_says_which_and_why(aws: Aws, db: Database, join: Join) -> None:
    member = await join()
    aws.proxy.faults["encryption-salt"] = Fault.DENIED
    done = await refresh_fleet(member.fleet, actor="test", wait=NO_TIME)
    (answer,) = await answered(db, done.generation, lambda each: bool(each.failures))
    assert not answer.acknowledged
    assert answer.failures == {"encryption-salt": "denied"}


async def test_a_process_that_was_away_reads_the_row_when_it_is_back(aws: Aws, db: Database, join: Join) -> None:
    asking, away = await join("api"), await join("worker", is_following=False)
    aws.put("admin-api-key", NEW_ADMIN)
    await refresh_fleet(asking.fleet, actor="test", wait=NO_TIME)
    assert not away.secrets.admin_key_matches(NEW_ADMIN)
    await away.fleet.look()
    assert away.secrets.admin_key_matches(NEW_ADMIN)


async def test_one_request_in_ten_seconds_whichever_process_is_asked(db: Database, join: Join) -> None:
    first, second = await join(), await join()
    await refresh_fleet(first.fleet, actor="test")
    with pytest.raises(RateLimited) as limited:
        await refresh_fleet(second.fleet, actor="test")
    assert 1 <= limited.value.retry_after_seconds <= 11
    await db.execute("UPDATE generation SET asked_at = asked_at - interval '10 seconds' WHERE name = 'secrets'")
    await refresh_fleet(second.fleet, actor="test")


async def test_of_requests_at_the_same_moment_one_is_served(join: Join) -> None:
    members = [await join(), await join()]
    results = await asyncio.gather(
        *(refresh_fleet(member.fleet, actor="test") for member in members), return_exceptions=True
    )
    assert sorted(isinstance(result, RateLimited) for result in results) == [False, True]


async def test_a_refresh_is_audited(db: Database, join: Join) -> None:
    member = await join()
    await refresh_fleet(member.fleet, actor="somebody")
    (entry,) = await list_audit(db)
    assert (entry.actor, entry.action) == ("somebody", "secrets.refreshed")


async def test_the_former_admin_key_opens_for_ten_minutes_also_where_it_was_never_held(
    aws: Aws, db: Database, join: Join
) -> None:
    member = await join()
    aws.put("admin-api-key", NEW_ADMIN)
    await refresh_fleet(member.fleet, actor="test")
    newcomer = await join()
    for each in (member, newcomer):
        assert each.secrets.admin_key_matches(VALUES["admin-api-key"])
        assert each.secrets.admin_key_matches(NEW_ADMIN)
    await db.execute("UPDATE secret_version SET accepted_until = now() WHERE current_since IS NULL")
    for each in (member, newcomer):
        await each.fleet.look()
        assert not each.secrets.admin_key_matches(VALUES["admin-api-key"])
        assert each.secrets.admin_key_matches(NEW_ADMIN)


async def test_revoking_ends_the_former_admin_key_everywhere_and_for_good(aws: Aws, db: Database, join: Join) -> None:
    members = [await join(), await join("worker")]
    former = aws.versions["admin-api-key"]
    aws.put("admin-api-key", NEW_ADMIN)
    done = await refresh_fleet(members[0].fleet, actor="test", revoke_previous=True)
    assert done.complete
    assert done.revoked == (former,)
    members.append(await join())  # a restart
    for member in members:
        assert member.secrets.admin_key_matches(NEW_ADMIN)
        assert not member.secrets.admin_key_matches(VALUES["admin-api-key"])


async def test_revoking_is_never_held_up(aws: Aws, join: Join) -> None:
    member = await join()
    await refresh_fleet(member.fleet, actor="test")
    for _ in range(3):
        await refresh_fleet(member.fleet, actor="test", revoke_previous=True)
    assert member.secrets.admin_key_matches(VALUES["admin-api-key"])


async def test_a_revoked_key_gets_no_minutes_when_a_late_process_sees_the_change(
    aws: Aws, db: Database, join: Join
) -> None:
    asking, late = await join("api"), await join("worker", is_following=False)
    aws.put("admin-api-key", NEW_ADMIN)
    await refresh_fleet(asking.fleet, actor="test", revoke_previous=True, wait=NO_TIME)
    await late.fleet.look()
    assert not late.secrets.admin_key_matches(VALUES["admin-api-key"])


async def test_revoking_in_an_outage_ends_what_the_fleet_knows_as_former(aws: Aws, db: Database, join: Join) -> None:
    member = await join()
    aws.put("admin-api-key", NEW_ADMIN)
    await refresh_fleet(member.fleet, actor="test")
    aws.proxy.faults[EVERY] = Fault.THROTTLED
    done = await refresh_fleet(member.fleet, actor="test", revoke_previous=True, wait=NO_TIME)
    assert not done.complete
    assert member.secrets.admin_key_matches(NEW_ADMIN)
    await member.fleet.look()
    assert not member.secrets.admin_key_matches(VALUES["admin-api-key"])


async def test_a_rollback_of_the_label_gives_the_key_its_minutes_again(aws: Aws, db: Database, join: Join) -> None:
    member, first = await join(), aws.versions["admin-api-key"]
    second = aws.put("admin-api-key", NEW_ADMIN)
    await refresh_fleet(member.fleet, actor="test")
    for current, before in ((first, second), (second, first)):
        aws.client.update_secret_version_stage(
            SecretId=f"{aws.prefix}/admin-api-key",
            VersionStage="AWSCURRENT",
            MoveToVersionId=current,
            RemoveFromVersionId=before,
        )
        await db.execute("UPDATE generation SET asked_at = NULL")
        await refresh_fleet(member.fleet, actor="test")
        assert member.secrets.get("admin-api-key").version_id == current
        assert member.secrets.admin_key_matches(NEW_ADMIN)
        assert member.secrets.admin_key_matches(VALUES["admin-api-key"])
