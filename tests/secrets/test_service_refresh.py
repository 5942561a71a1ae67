"""While it runs: fresh ahead of time, and the last good value through anything."""

import asyncio
import json
import threading
from typing import Any

import pytest

from email_gateway.errors import SecretUnavailable
from email_gateway.observe import REGISTRY, render_metrics
from email_gateway.secrets import SecretsService
from tests.fault_proxy import EVERY, Fault
from tests.observe.captured import captured_logs
from tests.plugins.secrets_manager import VALUES, Aws, Start, limits_for
from tests.secrets.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

CACHE = 300.0
NEW_KEY = "MARK-new-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789ab"
NEW_ADMIN = "MARK-new-admin-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"
FAILURES = {
    Fault.THROTTLED: "throttled",
    Fault.SERVER_ERROR: "unavailable",
    Fault.BAD_GATEWAY: "unavailable",
    Fault.HANG: "unavailable",
    Fault.RESET: "unavailable",
    Fault.DRIP: "unavailable",
    Fault.DENIED: "denied",
    Fault.NO_KMS: "denied",
    Fault.EXPIRED: "denied",
    Fault.NOT_FOUND: "not_found",
    Fault.DELETED: "not_found",
    Fault.PAGE_NOT_FOUND: "malformed",
    Fault.HTML: "malformed",
    Fault.EMPTY: "malformed",
    Fault.JSON_LIST: "malformed",
    Fault.WRONG_TYPES: "malformed",
    Fault.NO_VERSION: "malformed",
    Fault.BINARY: "malformed",
    Fault.ANOTHER_SECRET: "malformed",
    Fault.TOO_SHORT: "malformed",
    Fault.WRONG_ALPHABET: "malformed",
}
LASTING = ("denied", "not_found", "malformed")


def metric(name: str, secret: str) -> float | None:
    return REGISTRY.get_sample_value(f"email_gateway_{name}", {"name": secret})


async def test_a_new_value_is_at_hand_before_the_cache_ends(aws: Aws, start: Start, clock: FakeClock) -> None:
    service = await start()
    version = aws.put("encryption-key", NEW_KEY)
    await clock.advance(0.69 * CACHE)
    assert service.get("encryption-key").value == VALUES["encryption-key"]
    await clock.advance(0.22 * CACHE)
    assert service.get("encryption-key").value == NEW_KEY
    assert service.get("encryption-key").version_id == version


async def test_instances_that_start_together_refresh_apart(start: Start) -> None:
    planned = {(await start()).status()["encryption-key"]["next_refresh_seconds"] for _ in range(4)}
    assert len(planned) > 1


async def test_an_unchanged_secret_is_confirmed_and_nobody_is_told(start: Start, clock: FakeClock) -> None:
    service = await start()
    told: list[frozenset[str]] = []
    service.subscribe(_append_to(told))
    before = service.get("encryption-key")
    await clock.advance(3 * CACHE)
    assert service.get("encryption-key") is before
    assert service.status()["encryption-key"]["age_seconds"] < CACHE
    assert told == []


async def test_subscribers_are_told_the_names_that_changed_after_the_swap(aws: Aws, start: Start) -> None:
    service = await start()
    seen: list[tuple[frozenset[str], str]] = []

    async def look(changed: frozenset[str]) -> None:
        seen.append((changed, service.get("encryption-key").value))

    service.subscribe(look)
    aws.put("encryption-key", NEW_KEY)
    assert await service.refresh() == {"encryption-key"}
    assert seen == [(frozenset({"encryption-key"}), NEW_KEY)]


async def test_a_subscriber_that_fails_stops_neither_the_others_nor_the_refresh(
    aws: Aws, start: Start, clock: FakeClock
) -> None:
    service = await start()
    told: list[frozenset[str]] = []

    async def fail(changed: frozenset[str]) -> None:
        raise RuntimeError("MARK in a message")

    service.subscribe(fail)
    service.subscribe(_append_to(told))
    with captured_logs() as log:
        aws.put("encryption-key", NEW_KEY)
        await clock.advance(CACHE)
        aws.put("encryption-key", VALUES["encryption-key"])
        await clock.advance(CACHE)
    assert told == [{"encryption-key"}, {"encryption-key"}]
    assert len(log.events("secret_subscriber_failed")) == 2
    assert "MARK" not in log.getvalue()


@pytest.mark.parametrize("fault", FAILURES)
async def test_the_last_good_value_serves_through(aws: Aws, start: Start, clock: FakeClock, fault: Fault) -> None:
    service = await start(limits=limits_for(fault))
    with captured_logs() as log:
        aws.proxy.faults["encryption-key"] = fault
        aws.put("encryption-key", NEW_KEY)
        await clock.advance(0.9 * CACHE)
        assert service.get("encryption-key").value == VALUES["encryption-key"]
        assert service.status()["encryption-key"]["last_error"] == FAILURES[fault]
        assert service.health == "ok"
        assert metric("secret_alert", "encryption-key") == (1.0 if FAILURES[fault] in LASTING else 0.0)
        await clock.advance(0.2 * CACHE)
        assert service.health == "degraded"
        assert service.status()["encryption-key"]["stale"] is True
        assert service.status()["encryption-salt"]["stale"] is False
        assert metric("secret_alert", "encryption-key") == 1.0
        assert metric("secret_alert", "encryption-salt") == 0.0
        assert metric("secrets_age_seconds", "encryption-key") == pytest.approx(1.1 * CACHE)
        aws.proxy.faults.clear()
        await clock.advance(CACHE)
    assert service.get("encryption-key").value == NEW_KEY
    assert service.health == "ok"
    assert service.status()["encryption-key"]["last_error"] is None
    assert metric("secret_alert", "encryption-key") == 0.0
    failed = log.events("secret_refresh_failed")
    assert {(line["name"], line["failure"]) for line in failed} == {(f"{aws.prefix}/encryption-key", FAILURES[fault])}
    assert "MARK" not in log.getvalue()


async def test_a_day_without_secrets_manager_changes_nothing_but_the_age(
    aws: Aws, start: Start, clock: FakeClock
) -> None:
    service = await start({"SECRETS_CACHE_SECONDS": "3600"})
    aws.proxy.faults[EVERY] = Fault.RESET
    await clock.advance(24 * 3600)
    assert {name: service.get(name).value for name in VALUES} == VALUES
    assert service.admin_key_matches(VALUES["admin-api-key"])
    assert service.health == "degraded"
    assert service.status()["encryption-key"]["age_seconds"] == 24 * 3600


async def test_an_answer_that_drips_leaves_no_thread_behind(aws: Aws, start: Start) -> None:
    service = await start(limits=limits_for(Fault.DRIP))
    aws.proxy.faults[EVERY] = Fault.DRIP
    for _ in range(3):
        await service.refresh()
    for thread in [thread for thread in threading.enumerate() if thread.name == "secrets"]:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
    aws.proxy.faults.clear()
    await service.refresh()
    assert service.status()["encryption-key"]["last_error"] is None


async def test_failed_refreshes_are_repeated_sooner_and_ever_slower(aws: Aws, start: Start, clock: FakeClock) -> None:
    service = await start()
    aws.proxy.faults[EVERY] = Fault.DENIED
    waits = []
    for _ in range(8):
        await service.refresh()
        waits.append(service.status()["encryption-key"]["next_refresh_seconds"])
    assert waits[:4] == [10.0, 20.0, 40.0, 80.0]
    assert all(wait is not None and wait >= 160 for wait in waits[5:])


async def test_one_flight_serves_all_who_wait_and_reads_what_was_written_before_they_asked(
    aws: Aws, start: Start
) -> None:
    service = await start()
    asked = len(aws.proxy.requests)
    first = asyncio.create_task(service.refresh())
    await asyncio.sleep(0)
    aws.put("encryption-key", NEW_KEY)
    results = await asyncio.gather(*(service.refresh() for _ in range(20)))
    await first
    assert service.get("encryption-key").value == NEW_KEY
    assert all(result == results[0] for result in results)
    assert (len(aws.proxy.requests) - asked) / (asked or 1) == 2


async def test_a_cancelled_flight_does_not_count_for_who_waited_on_it(aws: Aws, start: Start) -> None:
    service = await start()
    first, second, third = (asyncio.create_task(service.refresh()) for _ in range(3))
    await first
    aws.put("encryption-key", NEW_KEY)
    second.cancel()
    await third
    assert second.cancelled()
    assert service.get("encryption-key").value == NEW_KEY


async def test_a_key_stored_under_both_names_does_not_replace_the_good_one(aws: Aws, start: Start) -> None:
    service = await start()
    aws.put("encryption-salt", VALUES["encryption-key"])
    assert await service.refresh() == frozenset()
    assert service.get("encryption-salt").value == VALUES["encryption-salt"]
    assert service.status()["encryption-salt"]["last_error"] == "malformed"
    assert service.status()["encryption-key"]["last_error"] is None


async def test_an_optional_secret_that_appears_replaces_the_environment_and_stays_when_it_is_deleted(
    aws: Aws, start: Start
) -> None:
    service = await start({"DATABASE_URL": "postgresql://localhost/environment"})
    aws.create({"database-url": "postgresql://localhost/secret"})
    assert await service.refresh() == {"database-url"}
    aws.client.delete_secret(SecretId=f"{aws.prefix}/database-url", ForceDeleteWithoutRecovery=True)
    assert await service.refresh() == frozenset()
    assert service.get("database-url").value == "postgresql://localhost/secret"
    assert service.status()["database-url"]["last_error"] == "not_found"


async def test_the_admin_key_in_force_is_the_last_good_one(aws: Aws, start: Start) -> None:
    service = await start()
    assert service.admin_key_matches(VALUES["admin-api-key"])
    for wrong in ("", VALUES["admin-api-key"][:-1], VALUES["admin-api-key"] + "x", "\ud800"):
        assert not service.admin_key_matches(wrong)
    aws.put("admin-api-key", NEW_ADMIN)
    await service.refresh()
    assert service.admin_key_matches(NEW_ADMIN)
    aws.client.delete_secret(SecretId=f"{aws.prefix}/admin-api-key")
    await service.refresh()
    assert service.admin_key_matches(NEW_ADMIN)
    assert not service.admin_key_matches("")


async def test_the_admin_key_before_the_current_one_opens_for_ten_minutes(
    aws: Aws, start: Start, clock: FakeClock
) -> None:
    service = await start({"SECRETS_CACHE_SECONDS": "86400"})
    aws.put("admin-api-key", NEW_ADMIN)
    await service.refresh()
    await clock.advance(599)
    assert service.admin_key_matches(VALUES["admin-api-key"])
    await clock.advance(2)
    assert not service.admin_key_matches(VALUES["admin-api-key"])
    assert service.admin_key_matches(NEW_ADMIN)


async def test_an_older_version_can_be_fetched_by_its_id(aws: Aws, start: Start) -> None:
    service = await start()
    aws.put("encryption-key", NEW_KEY)
    await service.refresh()
    old = await service.fetch_version("encryption-key", aws.versions["encryption-key"])
    assert old.value == VALUES["encryption-key"]
    assert service.get("encryption-key").value == NEW_KEY
    with pytest.raises(SecretUnavailable, match="ResourceNotFoundException"):
        await service.fetch_version("encryption-key", "00000000-0000-0000-0000-000000000000")


async def test_fetches_are_counted_by_result(aws: Aws, start: Start) -> None:
    service = await start()

    def count(name: str, result: str) -> float:
        labels = {"name": name, "result": result}
        return REGISTRY.get_sample_value("email_gateway_secret_refresh_total", labels) or 0.0

    before = count("encryption-key", "ok"), count("smtp-url", "absent"), count("encryption-salt", "throttled")
    aws.proxy.faults["encryption-salt"] = Fault.THROTTLED
    await service.refresh()
    after = count("encryption-key", "ok"), count("smtp-url", "absent"), count("encryption-salt", "throttled")
    assert after == tuple(number + 1 for number in before)


async def test_a_closed_service_leaves_no_age_behind(start: Start) -> None:
    service = await start()
    assert b'email_gateway_secrets_age_seconds{name="encryption-key"}' in render_metrics()
    await service.close()
    assert b'email_gateway_secrets_age_seconds{name="encryption-key"}' not in render_metrics()


async def test_status_holds_no_value(aws: Aws, start: Start) -> None:
    service = await start()
    status: Any = service.status()
    assert status["encryption-key"]["version_id"] == aws.versions["encryption-key"]
    assert status["smtp-url"]["version_id"] is None
    assert "MARK" not in repr(status) + repr(service) + repr(vars(service)["_held"])


def _append_to(told: list[frozenset[str]]) -> Any:
    async def tell(changed: frozenset[str]) -> None:
        told.append(changed)

    return tell


def test_the_front_offers_nothing_that_waits_for_a_read() -> None:
    assert not asyncio.iscoroutinefunction(SecretsService.get)
    assert not asyncio.iscoroutinefunction(SecretsService.find)


@pytest.mark.parametrize(
    ("stored", "form"),
    [
        (json.dumps({"encryption-key": NEW_KEY}), "a JSON object"),
        ("changeme-MARK-changeme-MARK-changeme", "a placeholder"),
    ],
)
async def test_a_value_that_is_none_is_named_in_the_log_and_the_last_good_one_serves(
    aws: Aws, start: Start, stored: str, form: str
) -> None:
    service = await start()
    version = aws.put("encryption-key", stored)
    with captured_logs() as log:
        await service.refresh()
    assert service.get("encryption-key").value == VALUES["encryption-key"]
    assert service.status()["encryption-key"]["last_error"] == "malformed"
    (failed,) = log.events("secret_refresh_failed")
    assert form in failed["error"]
    assert "email-gateway secrets set" in failed["error"]
    assert "MARK" not in log.getvalue()
    # What was taken for a key once stays one for what is sealed under it.
    assert (await service.fetch_version("encryption-key", version, is_former=True)).value == stored
    with pytest.raises(SecretUnavailable, match=form):
        await service.fetch_version("encryption-key", version)
