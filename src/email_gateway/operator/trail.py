"""Who read or changed the secrets, and when: the events of CloudTrail, asked for page by page.

CloudTrail keeps events for 90 days, shows them some minutes late, and answers two look-ups a second.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from email_gateway.operator.account import Account

SOURCE = "secretsmanager.amazonaws.com"
LONGEST = timedelta(days=90)
READING = ("GetSecretValue", "BatchGetSecretValue", "DescribeSecret", "GetResourcePolicy", "ListSecretVersionIds")


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One request to Secrets Manager about a secret of ours, or what Secrets Manager did by itself.

    CloudTrail holds no values. `error` is AWS's code where the request was refused.
    """

    at: datetime
    who: str
    action: str
    secret: str
    is_change: bool
    source: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Events of one who, action, secret and outcome."""

    who: str
    action: str
    secret: str
    error: str | None
    count: int
    first_at: datetime
    last_at: datetime


def list_events(
    account: Account, period: timedelta, report: Callable[[int, int], None], now: datetime | None = None
) -> list[TrailEvent]:
    """Return the events of our secrets in this period until now, the oldest first.

    Asks for all of Secrets Manager's events, since CloudTrail finds a secret only under the id that each
    caller used. `report` is told how many were looked through and how many are ours. Raises AwsRefused.
    """
    ends_at = now or datetime.now(UTC)
    found: list[TrailEvent] = []
    looked_through = 0
    page: dict[str, Any] = {}
    while True:
        told = account.call(
            "cloudtrail:LookupEvents",
            LookupAttributes=[{"AttributeKey": "EventSource", "AttributeValue": SOURCE}],
            StartTime=ends_at - period,
            EndTime=ends_at,
            MaxResults=50,
            **page,
        )
        events = told.get("Events") or []
        looked_through += len(events)
        found += (event for each in events if (event := parse_event(each, account.prefix)) is not None)
        report(looked_through, len(found))
        if not told.get("NextToken"):
            return sorted(found, key=lambda event: event.at)
        page = {"NextToken": told["NextToken"]}


def parse_event(told: Mapping[str, Any], prefix: str) -> TrailEvent | None:
    """Return an event of a secret under the prefix; None for others, and for what is no event."""
    try:
        record = json.loads(told["CloudTrailEvent"])
        at, action = told["EventTime"], str(told["EventName"])
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(record, Mapping):
        return None
    secret = _secret_of(record, told)
    if secret is None or not secret.startswith(f"{prefix}/"):
        return None
    return TrailEvent(
        at=at,
        who=_who(record),
        action=action,
        secret=secret.removeprefix(f"{prefix}/"),
        is_change=action not in READING,
        source=str(record.get("sourceIPAddress") or "-"),
        error=record.get("errorCode"),
    )


def group(events: Iterable[TrailEvent]) -> list[Group]:
    """Count events that are alike, the most frequent first."""
    alike: dict[tuple[str, str, str, str | None], list[datetime]] = {}
    for event in events:
        alike.setdefault((event.who, event.action, event.secret, event.error), []).append(event.at)
    groups = [Group(*key, len(times), min(times), max(times)) for key, times in alike.items()]
    return sorted(groups, key=lambda each: (-each.count, each.secret, each.who))


def _secret_of(record: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    """Return the secret's name, from wherever this kind of event has it: by name, by ARN, or among its resources."""
    places: list[object] = []
    for part in ("requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"):
        held = record.get(part)
        if isinstance(held, Mapping):
            places += [held.get(key) for key in ("secretId", "SecretId", "name", "arn", "aRN")]
    places += [resource.get("ARN") for resource in record.get("resources") or () if isinstance(resource, Mapping)]
    places += [resource.get("ResourceName") for resource in told.get("Resources") or ()]
    return next((_name_of(place) for place in places if isinstance(place, str) and place), None)


def _name_of(secret_id: str) -> str:
    """Return the name in an ARN, without the six characters that AWS appends; a name as it stands."""
    name = secret_id.partition(":secret:")[2]
    if not name:
        return secret_id
    stem, _, end = name.rpartition("-")
    return stem if stem and len(end) == 6 else name


def _who(record: Mapping[str, Any]) -> str:
    """Return account, role and session, or the user, or the service that asked."""
    identity = record.get("userIdentity") or {}
    arn = identity.get("arn")
    if isinstance(arn, str) and arn:
        return arn.rpartition("::")[2]
    return str(identity.get("invokedBy") or identity.get("type") or "-")
