import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from email_gateway.operator.trail import TrailEvent, group, parse_event

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:email-gateway/encryption-key"


def parse(record: dict[str, Any], **around: Any) -> TrailEvent | None:
    told = {"EventName": "GetSecretValue", "EventTime": AT, "CloudTrailEvent": json.dumps(record), **around}
    return parse_event(told, "email-gateway")


@pytest.mark.parametrize(
    "record",
    [
        {"requestParameters": {"secretId": "email-gateway/encryption-key"}},
        {"requestParameters": {"secretId": f"{ARN}-a1b2C3"}},
        {"requestParameters": {"secretId": ARN}},  # an ARN without the characters at its end is taken too
        {"requestParameters": {"name": "email-gateway/encryption-key"}},
        {"requestParameters": None, "responseElements": {"arn": f"{ARN}-a1b2C3"}},
        {"responseElements": {"aRN": f"{ARN}-a1b2C3"}},
        {"additionalEventData": {"SecretId": f"{ARN}-a1b2C3"}},
        {"resources": [{"ARN": f"{ARN}-a1b2C3"}]},
    ],
)
def test_the_secret_is_found_wherever_the_event_has_it(record: dict[str, Any]) -> None:
    event = parse(record)
    assert event is not None
    assert event.secret == "encryption-key"


def test_a_resource_beside_the_record_is_found_too() -> None:
    event = parse({}, Resources=[{"ResourceName": f"{ARN}-a1b2C3"}])
    assert event is not None


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"requestParameters": {"secretId": "email-gateway-other/encryption-key"}},
        {"requestParameters": {"secretId": 7}},
    ],
)
def test_events_of_other_secrets_are_not_ours(record: dict[str, Any]) -> None:
    assert parse(record) is None


@pytest.mark.parametrize(
    ("identity", "who"),
    [
        ({"arn": "arn:aws:sts::123456789012:assumed-role/gateway/i-1"}, "123456789012:assumed-role/gateway/i-1"),
        ({"arn": "arn:aws:iam::123456789012:root", "type": "Root"}, "123456789012:root"),
        ({"type": "AWSService", "invokedBy": "secretsmanager.amazonaws.com"}, "secretsmanager.amazonaws.com"),
        ({"type": "AWSAccount"}, "AWSAccount"),
        (None, "-"),
    ],
)
def test_who_asked_is_named_with_the_account(identity: Any, who: str) -> None:
    event = parse({"userIdentity": identity, "requestParameters": {"secretId": ARN}})
    assert event is not None
    assert event.who == who


@pytest.mark.parametrize(
    ("action", "is_change"),
    [("GetSecretValue", False), ("DescribeSecret", False), ("PutSecretValue", True), ("RotationFailed", True),
     ("SomethingNew", True)],
)  # fmt: skip
def test_what_is_no_known_read_counts_as_a_change(action: str, is_change: bool) -> None:
    event = parse({"requestParameters": {"secretId": ARN}}, EventName=action)
    assert event is not None
    assert event.is_change is is_change


def test_events_that_are_alike_are_counted_and_refused_ones_apart() -> None:
    def event(hour: int, error: str | None = None) -> TrailEvent:
        return TrailEvent(AT + timedelta(hours=hour), "a", "GetSecretValue", "encryption-key", False, "-", error)

    often, once = group([event(1), event(3), event(2), event(4, "AccessDenied")])
    assert (often.count, often.first_at, often.last_at) == (3, AT + timedelta(hours=1), AT + timedelta(hours=3))
    assert (once.count, once.error) == (1, "AccessDenied")
