from datetime import timedelta

import pytest

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.dashboard.key_findings import list_findings
from email_gateway.secrets.standing import SecretStatus
from tests.dashboard.house import status_of
from tests.dashboard.key_scenes import NEW, NEWER_VERSION, OLD, VERSION, ago, instance, root, snapshot, walk

ACTIVE = root(OLD, "active")
JUST_ASKED = timedelta(seconds=2)


def told(seen: KeySnapshot, status: SecretStatus | None = None) -> list[str]:
    found = list_findings(seen, {"encryption-key": status or status_of(VERSION)})
    assert all(each.to_do for each in found)
    return [f"{each.what} {each.why}" for each in found]


def test_where_all_is_well_nothing_waits() -> None:
    assert told(snapshot(ACTIVE, instances=[instance(), instance("worker")], walks=[walk()])) == []


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (snapshot(), "No root key is active a tenant's first mail cannot be sealed"),
        (snapshot(root(OLD, "active", wraps=1)), "3 data keys have no wrap under the active root key"),
        (
            snapshot(ACTIVE, root(NEW, "pending", created_at=ago(hours=3))),
            "A rotation that has not ended its root key has waited for 3 h 0 min",
        ),
        (
            snapshot(ACTIVE, instances=[instance(versions={"encryption-key": NEWER_VERSION})]),
            "api 7 on mail-1 holds another version of encryption-key",
        ),
        (
            snapshot(ACTIVE, instances=[instance(acknowledged=False)]),
            "api 7 on mail-1 has not followed the last refresh yet",
        ),
        (
            snapshot(ACTIVE, instances=[instance(failures={"encryption-key": "denied"}, acknowledged=False)]),
            "api 7 on mail-1 cannot read its secrets: encryption-key: denied",
        ),
        (
            snapshot(ACTIVE, instances=[instance(active_root=None)]),
            "api 7 on mail-1 does not hold the active root key: it opens and seals with what it has",
        ),
        (snapshot(ACTIVE, walks=[walk(unreadable=3)]), "3 values of message of billing do not open"),
        (snapshot(ACTIVE, current_since=ago(days=91)), "encryption-key is 91 days old, 90 are the most"),
    ],
)
def test_what_waits_for_a_person_is_named(seen: KeySnapshot, expected: str) -> None:
    assert told(seen) == [expected]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            status_of(VERSION, last_error="denied", last_error_code="AccessDeniedException", age_seconds=700.0),
            "encryption-key could not be read: denied (AccessDeniedException); the value of 11 min 40 s ago serves",
        ),
        (
            status_of(VERSION, last_error="unavailable"),
            "encryption-key could not be read: unavailable; the value of 3 s ago serves",
        ),
        (
            status_of(VERSION, stale=True, age_seconds=700.0),
            "encryption-key was last read 11 min 40 s ago; that value serves",
        ),
    ],
)
def test_a_secret_that_cannot_be_read_is_named_with_its_age(status: SecretStatus, expected: str) -> None:
    assert told(snapshot(ACTIVE), status) == [expected]


def test_processes_have_a_moment_to_follow_before_anybody_is_called() -> None:
    late = [instance(versions={"encryption-key": NEWER_VERSION}, active_root=None, acknowledged=False)]
    assert told(snapshot(ACTIVE, instances=late, asked_ago=JUST_ASKED)) == []
    assert told(snapshot(ACTIVE, instances=late, current_since=ago(seconds=2))) == []
    just_active = root(OLD, "active", activated_at=ago(seconds=2))
    assert told(snapshot(just_active, instances=late)) == []
    failing = [instance(failures={"encryption-key": "denied"}, acknowledged=False)]
    assert len(told(snapshot(ACTIVE, instances=failing, asked_ago=JUST_ASKED))) == 1
