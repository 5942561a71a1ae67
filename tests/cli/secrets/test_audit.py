"""`secrets audit`: CloudTrail's events as it gives them. Moto has no look-up, so the proxy answers as CloudTrail does."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.secrets.conftest import Shell

NOW = datetime.now(UTC).replace(microsecond=0)
GATEWAY = "arn:aws:sts::123456789012:assumed-role/email-gateway/i-0123456789abcdef0"
ADMIN = "arn:aws:iam::123456789012:user/ana"


class Trail:
    """CloudTrail's look-up: pages of two events, the newest first, in the form of its documentation."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.events: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        shell.proxy.answers["LookupEvents"] = self.answer

    def add(self, action: str, hours: float, who: dict[str, Any], **record: Any) -> None:
        at = NOW - timedelta(hours=hours)
        whole = {"eventName": action, "userIdentity": who, "sourceIPAddress": "10.0.0.7", **record}
        self.events.append(
            {"EventId": "e", "EventName": action, "EventTime": at.timestamp(), "CloudTrailEvent": json.dumps(whole)}
        )

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(request)
        inside = [e for e in self.events if request["StartTime"] <= e["EventTime"] <= request["EndTime"]]
        ordered = sorted(inside, key=lambda event: -event["EventTime"])
        begin = int(request.get("NextToken", 0))
        more = {"NextToken": str(begin + 2)} if begin + 2 < len(ordered) else {}
        return 200, {"Events": ordered[begin : begin + 2], **more}


@pytest.fixture
def trail(shell: Shell) -> Trail:
    trail = Trail(shell)
    arn = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{shell.prefix}/encryption-key-a1b2C3"
    name = f"{shell.prefix}/encryption-key"
    for hour in range(3):
        trail.add("GetSecretValue", hour, {"arn": GATEWAY}, requestParameters={"secretId": name})
    trail.add("PutSecretValue", 5, {"arn": ADMIN}, requestParameters={"secretId": arn})
    trail.add("DeleteSecret", 6, {"arn": ADMIN}, requestParameters={"secretId": name}, errorCode="AccessDenied")
    trail.add("CreateSecret", 7, {"arn": ADMIN}, requestParameters={"name": name})
    service = {"type": "AWSService", "invokedBy": "secretsmanager.amazonaws.com"}
    trail.add("RotationSucceeded", 8, service, additionalEventData={"SecretId": arn})
    trail.add("EndSecretVersionDelete", 9, service, serviceEventDetails={"aRN": arn})
    trail.add("GetSecretValue", 1, {"arn": ADMIN}, requestParameters={"secretId": "somebody-elses/secret"})
    trail.add("ListSecrets", 1, {"arn": ADMIN}, requestParameters=None)
    trail.add("GetSecretValue", 24 * 8, {"arn": GATEWAY}, requestParameters={"secretId": name})
    return trail


def test_machines_get_every_event_of_our_secrets_in_the_period(shell: Shell, trail: Trail) -> None:
    ran = shell.run("audit", "--days", "7", "--json")
    assert ran.code == 0, ran
    events = ran.told["events"]
    assert [event["action"] for event in events] == [
        "EndSecretVersionDelete", "RotationSucceeded", "CreateSecret", "DeleteSecret", "PutSecretValue",
        *["GetSecretValue"] * 3,
    ]  # fmt: skip
    assert {event["secret"] for event in events} == {"encryption-key"}
    assert [event["is_change"] for event in events] == [True] * 5 + [False] * 3
    assert events[0]["who"] == "secretsmanager.amazonaws.com"
    assert events[3]["error"] == "AccessDenied"
    assert events[-1]["who"] == "123456789012:assumed-role/email-gateway/i-0123456789abcdef0"
    assert datetime.fromisoformat(events[-1]["at"]) == NOW
    assert {request["LookupAttributes"][0]["AttributeValue"] for request in trail.requests} == {
        "secretsmanager.amazonaws.com"
    }
    assert len(trail.requests) == 5
    assert len(shell.run("audit", "--days", "10", "--json").told["events"]) == 9


def test_people_get_each_change_and_reads_by_the_number(shell: Shell, trail: Trail) -> None:
    ran = shell.run("audit")
    assert ran.code == 0
    assert "8 events in 7 days, 5 changes, 1 refused" in ran.out
    (reads,) = [line for line in ran.out.splitlines() if "GetSecretValue" in line]
    assert " 3 " in reads
    assert "AccessDenied" in ran.out


def test_csv_has_a_line_for_each_event(shell: Shell, trail: Trail) -> None:
    rows = list(csv.DictReader(io.StringIO(shell.run("audit", "--csv").out)))
    assert len(rows) == 8
    assert rows[4]["action"] == "PutSecretValue"
    assert rows[4]["who"] == "123456789012:user/ana"


def test_a_trail_without_events_is_no_error(shell: Shell) -> None:
    Trail(shell)
    ran = shell.run("audit", "--days", "90")
    assert ran.code == 0
    assert "0 events in 90 days" in ran.out


def test_what_is_no_event_is_passed_over(shell: Shell, trail: Trail) -> None:
    trail.events += [{"EventName": "x", "EventTime": NOW.timestamp(), "CloudTrailEvent": "MARK {"}]
    trail.events += [{"EventName": "x", "EventTime": NOW.timestamp()}]
    trail.events += [{"EventName": "x", "EventTime": NOW.timestamp(), "CloudTrailEvent": "[]"}]
    assert len(shell.run("audit", "--json").told["events"]) == 8


def test_a_throttled_look_up_is_repeated(shell: Shell, trail: Trail) -> None:
    answer = trail.answer
    throttled: list[dict[str, Any]] = []

    def throttle(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if len(throttled) < 2:
            throttled.append(request)
            return 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}
        return answer(request)

    shell.proxy.answers["LookupEvents"] = throttle
    assert len(shell.run("audit", "--json").told["events"]) == 8
    assert len(throttled) == 2


def test_who_may_not_look_is_told_what_to_allow(shell: Shell) -> None:
    shell.proxy.answers["LookupEvents"] = lambda _: (400, {"__type": "AccessDeniedException", "message": "MARK"})
    ran = shell.run("audit")
    assert ran.code == 1
    assert "allow cloudtrail:LookupEvents" in ran.err


@pytest.mark.parametrize("arguments", [("--days", "0"), ("--days", "91"), ("--csv", "--json")])
def test_wrong_usage_exits_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell.run("audit", *arguments).code == 2
