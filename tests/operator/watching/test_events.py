"""What CloudTrail tells EventBridge about our secrets and our key, and which of it is passed on."""

import json
import re
from typing import Any, cast

import pytest
from moto.events.models import EventPattern, EventPatternParser

from tests.operator.watching.templates import ACCOUNT, GATEWAY, KEY_ARN, KEY_ID, REGION, of_type

RULES = of_type("AWS::Events::Rule")
SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{GATEWAY}/encryption-key-a1B2c3"
OTHER_ARN = SECRET_ARN.replace(f"{GATEWAY}/", f"{GATEWAY}-staging/")
OTHER_KEY = KEY_ARN.replace("33ecbb4c", "44ecbb4c")
CALL = "AWS API Call via CloudTrail"
SERVICE_EVENT = "AWS Service Event via CloudTrail"


def event(source: str, name: str, kind: str = CALL, **detail: Any) -> dict[str, Any]:
    """An event as EventBridge gets it from CloudTrail, in the form of AWS's user guides."""
    return {
        "version": "0",
        "id": "8f1d4c0e-0c3a-4b7e-9d54-6d7a1b2c3d4e",
        "detail-type": kind,
        "source": f"aws.{source}",
        "account": ACCOUNT,
        "time": "2026-11-29T12:00:00Z",
        "region": REGION,
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ana", "accountId": ACCOUNT},
            "eventTime": "2026-11-29T12:00:00Z",
            "eventSource": f"{source}.amazonaws.com",
            "eventName": name,
            "awsRegion": REGION,
            "sourceIPAddress": "10.0.0.7",
            "requestParameters": None,
            "responseElements": None,
            **detail,
        },
    }


def secret_event(name: str, secret_id: str, **detail: Any) -> dict[str, Any]:
    return event("secretsmanager", name, requestParameters={"secretId": secret_id}, **detail)


def key_event(name: str, key_id: str) -> dict[str, Any]:
    resource = {"ARN": KEY_ARN, "accountId": ACCOUNT, "type": "AWS::KMS::Key"}
    return event("kms", name, requestParameters={"keyId": key_id}, resources=[resource])


def rotation_event(name: str, arn: str) -> dict[str, Any]:
    return event("secretsmanager", name, SERVICE_EVENT, additionalEventData={"SecretId": arn})


def told_by(told: dict[str, Any]) -> list[str]:
    """The rules that pass an event on."""
    matched = []
    for name, rule in RULES.items():
        raw = json.dumps(rule["EventPattern"])
        if EventPattern(raw, EventPatternParser(raw).parse()).matches_event(cast("Any", told)):
            matched.append(name)
    return matched


@pytest.mark.parametrize(
    ("told", "rules"),
    [
        (secret_event("DeleteSecret", f"{GATEWAY}/encryption-key"), ["SecretTouched"]),
        (secret_event("DeleteSecret", SECRET_ARN), ["SecretTouched"]),
        (secret_event("DeleteSecret", SECRET_ARN, errorCode="AccessDenied"), ["SecretTouched"]),
        (secret_event("PutResourcePolicy", f"{GATEWAY}/admin-api-key"), ["SecretTouched"]),
        (secret_event("DeleteResourcePolicy", SECRET_ARN), ["SecretTouched"]),
        (secret_event("CancelRotateSecret", SECRET_ARN), ["SecretTouched"]),
        # By a part of the ARN: the answer has the whole name.
        (
            secret_event(
                "DeleteSecret", "partial", responseElements={"name": f"{GATEWAY}/smtp-url", "aRN": SECRET_ARN}
            ),
            ["SecretTouched"],
        ),
        (secret_event("DeleteSecret", f"{GATEWAY}-staging/encryption-key"), []),
        (secret_event("DeleteSecret", OTHER_ARN), []),
        (secret_event("GetSecretValue", SECRET_ARN), []),
        (secret_event("PutSecretValue", SECRET_ARN), []),
        (rotation_event("RotationFailed", SECRET_ARN), ["RotationBroken"]),
        (rotation_event("RotationAbandoned", SECRET_ARN), ["RotationBroken"]),
        (rotation_event("TestRotationFailed", SECRET_ARN), ["RotationBroken"]),
        (rotation_event("RotationSucceeded", SECRET_ARN), []),
        (rotation_event("RotationFailed", OTHER_ARN), []),
        (key_event("ScheduleKeyDeletion", KEY_ARN), ["KeyTouched"]),
        (key_event("ScheduleKeyDeletion", KEY_ID), ["KeyTouched"]),
        (key_event("DisableKey", KEY_ID), ["KeyTouched"]),
        (key_event("PutKeyPolicy", KEY_ARN), ["KeyTouched"]),
        (key_event("ScheduleKeyDeletion", OTHER_KEY), []),
        (key_event("Decrypt", KEY_ARN), []),
    ],
    ids=lambda value: value["detail"]["eventName"] if isinstance(value, dict) else ",".join(value) or "nobody",
)
def test_an_event_is_told_by(told: dict[str, Any], rules: list[str]) -> None:
    assert told_by(told) == rules


@pytest.mark.parametrize("name", RULES)
def test_what_is_told_is_in_the_event(name: str) -> None:
    told = {
        "SecretTouched": secret_event("DeleteSecret", SECRET_ARN, errorCode="AccessDenied"),
        "RotationBroken": rotation_event("RotationFailed", SECRET_ARN),
        "KeyTouched": key_event("DisableKey", KEY_ID),
    }[name]
    told["detail"].setdefault("errorCode", "-")  # there where a request was refused
    (target,) = RULES[name]["Targets"]
    transformer = target["InputTransformer"]
    for path in transformer["InputPathsMap"].values():
        value: Any = told
        for step in path.removeprefix("$.").split("."):
            value = value[step]
        assert isinstance(value, str)
    for line in transformer["InputTemplate"].splitlines():
        assert re.fullmatch(r'"[^"]*"', line)
        assert set(re.findall(r"<([^>]*)>", line)) <= set(transformer["InputPathsMap"])
