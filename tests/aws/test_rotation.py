import base64
import re

import pytest

from email_gateway.aws.failures import RotationFailed
from email_gateway.aws.rotation import STEPS as SPELLINGS
from email_gateway.aws.rotation import parse_event, parse_name
from tests.aws.recording_gateway import problem
from tests.aws.rotating import SERVED, STEPS, VALUES, Rotating, everything_said_by

COMPLETE = "POST /admin/keys/rotation/complete"
CALLS = {
    "encryption-key": ["POST /admin/keys/rotation/stage", "POST /admin/keys/rotation/verify", COMPLETE],
    "admin-api-key": ["POST /admin/secrets/stage", "GET /admin/health", COMPLETE],
}


@pytest.mark.parametrize("name", SERVED)
def test_a_rotation_makes_the_new_version_current_and_tells_the_gateway_each_step(
    rotating: Rotating, name: str
) -> None:
    version_id = rotating.begin(name)
    rotating.rotate(name, version_id)

    rotating.assert_rotated(name, version_id)
    assert rotating.value(name, "AWSPREVIOUS") == VALUES[name]
    assert rotating.gateway.paths() == CALLS[name]
    for asked in rotating.gateway.asked:
        if asked.method == "POST":
            assert asked.headers["x-rotation-key"] == VALUES["rotation-key"]
            assert asked.body == {"secret": name, "version_id": version_id}


def test_the_new_encryption_key_is_32_random_bytes_on_one_line_of_base64(rotating: Rotating) -> None:
    made = set()
    for _ in range(3):
        version_id = rotating.begin("encryption-key")
        rotating.take("createSecret", "encryption-key", version_id)
        made.add(rotating.value("encryption-key", "AWSPENDING", version_id))
    assert len(made) == 3
    for value in made:
        assert len(base64.b64decode(value, validate=True)) == 32
        assert "\n" not in value


def test_the_new_admin_key_is_visible_ascii_and_goes_to_health_alone(rotating: Rotating) -> None:
    version_id = rotating.begin("admin-api-key")
    for step in STEPS[:3]:
        rotating.take(step, "admin-api-key", version_id)
    value = rotating.value("admin-api-key", "AWSPENDING", version_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43,}", value)
    staged, checked = rotating.gateway.asked
    assert checked.headers["x-admin-key"] == value
    assert "x-rotation-key" not in checked.headers
    assert "x-admin-key" not in staged.headers


@pytest.mark.parametrize("name", SERVED)
def test_each_step_may_be_taken_twice(rotating: Rotating, name: str) -> None:
    version_id = rotating.begin(name)
    made = set()
    for step in STEPS:
        for _ in range(2):
            rotating.take(step, name, version_id)
            made.add(rotating.value(name, rotating_label(step), version_id))
    assert len(made) == 1
    rotating.assert_rotated(name, version_id)


def rotating_label(step: str) -> str:
    return "AWSCURRENT" if step == "finishSecret" else "AWSPENDING"


def test_two_rotations_leave_every_version_pinned(rotating: Rotating) -> None:
    versions = [rotating.versions["encryption-key"]]
    for _ in range(2):
        versions.append(rotating.begin("encryption-key"))
        rotating.rotate("encryption-key", versions[-1])
    labels = rotating.labels("encryption-key")
    assert [sorted(labels[version_id] - {f"EGW-{version_id[:8]}"}) for version_id in versions] == [
        [], ["AWSPREVIOUS"], ["AWSCURRENT"],
    ]  # fmt: skip
    assert all(f"EGW-{version_id[:8]}" in labels[version_id] for version_id in versions)


def test_a_version_that_was_pinned_under_another_name_gets_no_second_pin(rotating: Rotating) -> None:
    old = rotating.versions["encryption-key"]
    rotating.client.update_secret_version_stage(
        SecretId=rotating.arn("encryption-key"), VersionStage="EGW-deadbeef", MoveToVersionId=old
    )
    rotating.rotate("encryption-key", rotating.begin("encryption-key"))
    assert rotating.labels("encryption-key")[old] == {"AWSPREVIOUS", "EGW-deadbeef"}


@pytest.mark.parametrize("step", STEPS)
def test_nothing_happens_while_rotation_is_off(rotating: Rotating, step: str) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.disable("encryption-key")
    with pytest.raises(RotationFailed, match="rotation is not enabled"):
        rotating.take(step, "encryption-key", version_id)
    assert rotating.gateway.asked == []


@pytest.mark.parametrize("step", STEPS)
def test_an_unknown_version_is_refused(rotating: Rotating, step: str) -> None:
    rotating.begin("encryption-key")
    with pytest.raises(RotationFailed, match="has no version 00000000-0000-4000-8000-000000000000"):
        rotating.take(step, "encryption-key", "00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize("step", STEPS)
def test_a_version_that_is_not_pending_is_refused_naming_the_one_that_is(rotating: Rotating, step: str) -> None:
    first = rotating.begin("encryption-key")
    rotating.take("createSecret", "encryption-key", first)
    second = rotating.begin("encryption-key")
    with pytest.raises(RotationFailed, match=f"{first} is not AWSPENDING, {second} is"):
        rotating.take(step, "encryption-key", first)


@pytest.mark.parametrize("step", STEPS[:3])
def test_a_version_that_is_current_already_has_nothing_left_to_do(rotating: Rotating, step: str) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.rotate("encryption-key", version_id)
    rotating.gateway.asked.clear()
    rotating.take(step, "encryption-key", version_id)
    assert rotating.gateway.asked == []
    assert rotating.labels("encryption-key")[version_id] == {"AWSCURRENT", f"EGW-{version_id[:8]}"}


def test_finishing_what_is_current_already_still_tells_the_gateway(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.rotate("encryption-key", version_id)
    rotating.gateway.asked.clear()
    rotating.take("finishSecret", "encryption-key", version_id)
    assert rotating.gateway.paths() == [COMPLETE]


@pytest.mark.parametrize("copies_current", [False, True])
def test_a_lone_test_with_no_new_value_tries_the_way_to_the_gateway_only(
    rotating: Rotating, copies_current: bool
) -> None:
    for name in SERVED:
        version_id = rotating.begin(name, copies_current=copies_current)
        rotating.take("testSecret", name, version_id)
        assert rotating.labels(name) == {version_id: {"AWSPENDING"}, rotating.versions[name]: {"AWSCURRENT"}}
    verify, health = rotating.gateway.asked
    assert verify.path == "/admin/keys/rotation/verify"
    assert verify.body == {"secret": "encryption-key", "version_id": None}
    assert health.headers["x-admin-key"] == VALUES["admin-api-key"]


def test_an_empty_version_left_by_a_failed_rotation_gets_its_value_now(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.gateway.next_answers = [problem(409, "rotation_pending", "another rotation is pending")]
    with pytest.raises(RotationFailed):
        rotating.take("setSecret", "encryption-key", version_id)
    rotating.rotate("encryption-key", version_id)
    rotating.assert_rotated("encryption-key", version_id)


def test_an_empty_version_of_an_older_rotation_does_not_stop_the_next(rotating: Rotating) -> None:
    abandoned = rotating.begin("encryption-key")
    version_id = rotating.begin("encryption-key")
    rotating.rotate("encryption-key", version_id)
    labels = rotating.labels("encryption-key")
    assert labels.pop(abandoned) == set()
    assert labels[version_id] == {"AWSCURRENT", f"EGW-{version_id[:8]}"}


def test_an_empty_version_never_becomes_current(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    with pytest.raises(RotationFailed, match="has no value"):
        rotating.take("finishSecret", "encryption-key", version_id)
    assert rotating.value("encryption-key", "AWSCURRENT") == VALUES["encryption-key"]


@pytest.mark.parametrize("step", ["setSecret", "testSecret"])
@pytest.mark.parametrize("name", SERVED)
def test_what_the_gateway_refuses_is_not_promoted_and_the_error_says_why(
    rotating: Rotating, name: str, step: str
) -> None:
    version_id = rotating.begin(name)
    rotating.take("createSecret", name, version_id)
    rotating.gateway.next_answers = [problem(409, "rotation_pending", "another rotation is pending since 10:00")] * 9
    with pytest.raises(RotationFailed) as failed:
        rotating.take(step, name, version_id)

    assert (failed.value.status, failed.value.code) == (409, "rotation_pending")
    told = str(failed.value)
    for part in (step, f"{rotating.prefix}/{name}", "409", "rotation_pending", "another rotation is pending since"):
        assert part in told
    assert rotating.value(name, "AWSCURRENT") == VALUES[name]
    assert len(rotating.gateway.asked) == 1


def test_when_only_the_last_call_fails_the_rotation_has_succeeded(
    rotating: Rotating, caplog: pytest.LogCaptureFixture
) -> None:
    version_id = rotating.begin("encryption-key")
    for step in STEPS[:3]:
        rotating.take(step, "encryption-key", version_id)
    rotating.gateway.next_answers = [problem(500, "application_error", "look into the log")]
    rotating.take("finishSecret", "encryption-key", version_id)
    rotating.assert_rotated("encryption-key", version_id)
    assert "the gateway's next refresh will find it" in caplog.text
    assert "application_error" in caplog.text


def test_without_the_rotation_key_the_error_names_the_secret_to_create(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.take("createSecret", "encryption-key", version_id)
    rotating.client.delete_secret(SecretId=f"{rotating.prefix}/rotation-key", ForceDeleteWithoutRecovery=True)
    with pytest.raises(RotationFailed, match=f"there is no secret {rotating.prefix}/rotation-key"):
        rotating.take("setSecret", "encryption-key", version_id)


@pytest.mark.parametrize("url", ["", "http://mail.example.com", "mail.example.com"])
def test_without_a_safe_url_nothing_is_sent(rotating: Rotating, url: str) -> None:
    version_id = rotating.begin("encryption-key")
    rotating.environ["GATEWAY_URL"] = url
    with pytest.raises(RotationFailed, match="GATEWAY_URL"):
        rotating.take("setSecret", "encryption-key", version_id)


def test_both_spellings_of_the_steps_are_known(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    for step in ("create_secret", "set_secret", "test_secret", "finish_secret"):
        assert SPELLINGS[step] in STEPS
        rotating.take(step, "encryption-key", version_id)
    rotating.assert_rotated("encryption-key", version_id)


def test_the_secret_may_be_named_instead_of_given_by_arn(rotating: Rotating, monkeypatch: pytest.MonkeyPatch) -> None:
    version_id = rotating.begin("encryption-key")
    monkeypatch.setattr(rotating, "arn", lambda name: f"{rotating.prefix}/{name}")
    rotating.rotate("encryption-key", version_id)
    rotating.assert_rotated("encryption-key", version_id)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("encryption-salt", "key and salt together"),
        ("database-url", "AWS's own function for RDS"),
        ("rotation-key", "only"),
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_other_secrets_are_refused_with_the_reason(rotating: Rotating, step: str, name: str, reason: str) -> None:
    version_id = rotating.begin(name)
    with pytest.raises(RotationFailed, match=reason) as failed:
        rotating.take(step, name, version_id)
    assert VALUES[name] not in everything_said_by(failed.value)
    assert rotating.labels(name)[version_id] == {"AWSPENDING"}


def test_the_prefix_is_everything_before_the_last_slash() -> None:
    assert parse_name("prod/mail/encryption-key") == ("prod/mail", "encryption-key")
    for name in ("encryption-key", "/encryption-key", "prod/encryption-key-AbC123", "prod/ENCRYPTION-KEY"):
        with pytest.raises(RotationFailed):
            parse_name(name)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Step": "createSecret", "SecretId": "a/encryption-key", "Token": "x" * 36},
        {"Step": "revokeSecret", "SecretId": "a/encryption-key", "ClientRequestToken": "x" * 36},
        {"Step": "setSecret", "SecretId": 7, "ClientRequestToken": "x" * 36},
        {"Step": "setSecret", "SecretId": "a", "ClientRequestToken": "x" * 36, "RotationToken": {"MARK": 1}},
    ],
)
def test_what_is_no_event_of_a_rotation_is_refused(event: dict[str, object]) -> None:
    with pytest.raises(RotationFailed) as failed:
        parse_event(event)
    assert "MARK" not in everything_said_by(failed.value)
