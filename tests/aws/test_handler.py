"""The function as Lambda calls it: with an event, a context and its environment."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from email_gateway.aws.failures import RotationFailed
from email_gateway.aws.rotation import TALKATIVE, handler, make_client
from tests.aws.rotating import SERVED, STEPS, VALUES, Rotating, everything_said_by
from tests.moto_server import AWS_ENVIRONMENT, REGION

TOKEN = "MARK-rotation-token-of-an-account-0123456789"


@pytest.fixture
def container(rotating: Rotating, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rotating]:
    """The environment of a Lambda container that logs at DEBUG."""
    environ = {"AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": moto_url, "GATEWAY_URL": f"{rotating.gateway.url}/v1/"}
    for name, value in (AWS_ENVIRONMENT | environ).items():
        monkeypatch.setenv(name, value)
    make_client.cache_clear()
    yield rotating
    make_client.cache_clear()


@pytest.fixture
def debugging(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger at DEBUG, those of the AWS client too."""
    for name in (None, *TALKATIVE):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def event_of(rotating: Rotating, step: str, name: str, version_id: str) -> dict[str, Any]:
    return {
        "Step": step,
        "SecretId": rotating.arn(name),
        "ClientRequestToken": version_id,
        "RotationToken": TOKEN,
    }


@pytest.mark.parametrize("name", SERVED)
def test_four_events_rotate_and_leave_a_line_each_without_any_value(
    container: Rotating, debugging: pytest.LogCaptureFixture, name: str
) -> None:
    version_id = container.begin(name)
    events = [event_of(container, step, name, version_id) for step in STEPS]
    debugging.clear()
    for event in events:
        handler(event, None)

    logged = debugging.text
    container.assert_rotated(name, version_id)
    lines = [record.getMessage() for record in debugging.records if record.name == "email_gateway.aws.rotation"]
    assert [line.partition(":")[0] for line in lines] == [
        f"{step} of {container.prefix}/{name}, version {version_id}" for step in STEPS
    ]
    for value in (container.value(name, "AWSCURRENT"), VALUES[name], VALUES["rotation-key"], TOKEN):
        assert value not in logged


def test_the_search_above_would_find_what_the_aws_client_logs_at_debug(
    container: Rotating, debugging: pytest.LogCaptureFixture
) -> None:
    container.value("encryption-key", "AWSCURRENT")
    assert VALUES["encryption-key"] in debugging.text


def test_a_failure_holds_no_value(container: Rotating, debugging: pytest.LogCaptureFixture) -> None:
    version_id = container.begin("admin-api-key")
    handler(event_of(container, "createSecret", "admin-api-key", version_id), None)
    container.client.put_secret_value(SecretId=f"{container.prefix}/rotation-key", SecretString="MARK\nbroken")
    event = event_of(container, "setSecret", "admin-api-key", version_id)
    debugging.clear()
    with pytest.raises(RotationFailed) as failed:
        handler(event, None)
    assert "MARK" not in everything_said_by(failed.value)
    assert "MARK" not in debugging.text


def test_the_client_is_made_once_and_does_not_wait_long(container: Rotating) -> None:
    client = make_client()
    assert make_client() is client
    config: Any = client.meta.config  # its stubs have no attributes
    assert (config.connect_timeout, config.read_timeout) == (2, 5)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
