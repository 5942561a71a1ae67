"""watching.yaml: its alarms and its dashboard speak of metrics that the gateway emits, in the form it emits them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from email_gateway.observe.emf import EVERY, NAMESPACE
from tests.cli.test_help import EVERY_COMMAND
from tests.operator.watching.faces import Faces, Told
from tests.operator.watching.templates import ACCOUNT, FOLDER, GATEWAY, REGION, WATCHING, dashboard, of_type

pytestmark = pytest.mark.anyio

ALARMS = of_type("AWS::CloudWatch::Alarm")
EVERY_SECONDS = int(EVERY.total_seconds())


def metrics_of(alarm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What an alarm looks at: its metric, or those of its expression, with period and statistic."""
    if "Metrics" not in alarm:
        yield {**alarm, "Stat": alarm["Statistic"]}
        return
    for each in alarm["Metrics"]:
        if "MetricStat" in each:
            yield {**each["MetricStat"]["Metric"], **each["MetricStat"]}


def shown_by(widget: dict[str, Any]) -> Iterator[Told]:
    """Name and dimensions of each metric in a widget: as a list, or in a search."""
    for first, *rest in widget["properties"].get("metrics", []):
        if isinstance(first, str):
            name, *pairs = (each for each in rest if isinstance(each, str))
            yield name, frozenset(pairs[::2])
            assert (first, pairs[1]) == (NAMESPACE, GATEWAY)
        else:
            found = re.fullmatch(
                rf"SEARCH\('\{{{NAMESPACE},([a-z,]+)\}} MetricName=\"(\w+)\" gateway=\"{GATEWAY}\"', '\w+', 60\)",
                first["expression"],
            )
            assert found, first
            yield found[2], frozenset(found[1].split(","))


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I", "--", str(WATCHING)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", ALARMS)
async def test_an_alarm_looks_at_a_metric_that_is_emitted(name: str, faces: Faces) -> None:
    for metric in metrics_of(ALARMS[name]):
        wanted = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
        assert metric["Namespace"] == NAMESPACE
        assert wanted.pop("gateway") == GATEWAY
        assert any(
            metric["MetricName"] in document
            and document.items() >= wanted.items()
            and {"gateway", *wanted} in [set(dimensions) for dimensions in directive["Dimensions"]]
            for document in faces.emitted
            for directive in document["_aws"]["CloudWatchMetrics"]
        ), (metric["MetricName"], wanted)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_has_data_in_every_period(name: str) -> None:
    for metric in metrics_of(ALARMS[name]):
        assert int(metric["Period"]) % EVERY_SECONDS == 0
        # What a counter added is summed; of a gauge every process tells the same or its own, and the worst counts.
        is_counter = metric["MetricName"].endswith("_total")
        assert metric["Stat"] == ("Sum" if is_counter else "Minimum" if name == "Silence" else "Maximum")
    assert ALARMS[name]["TreatMissingData"] == ("breaching" if name == "Silence" else "notBreaching")


def test_disagreement_is_told_after_ten_minutes_and_staleness_after_two_lifetimes() -> None:
    assert int(ALARMS["Disagreement"]["Period"]) * int(ALARMS["Disagreement"]["EvaluationPeriods"]) == 600
    stale = ALARMS["StaleSecret"]
    (expression,) = [each["Expression"] for each in stale["Metrics"] if "Expression" in each]
    assert (expression, stale["ComparisonOperator"], int(stale["Threshold"])) == (
        "age / lifetime",
        "GreaterThanThreshold",
        2,
    )


async def test_the_dashboard_shows_what_is_emitted_and_nothing_else(faces: Faces) -> None:
    shown = {each for widget in dashboard()["widgets"] for each in shown_by(widget)}
    assert shown <= faces.told_once_moved()
    assert {name for name, _ in shown} == faces.served_names


def test_the_dashboard_shows_every_alarm() -> None:
    (alarms,) = (widget for widget in dashboard()["widgets"] if widget["type"] == "alarm")
    assert set(alarms["properties"]["alarms"]) == {f"{name}.Arn" for name in ALARMS}


def test_every_alarm_and_every_rule_tells_the_topic_which_lets_them() -> None:
    rules = of_type("AWS::Events::Rule")
    assert all(alarm["AlarmActions"] == alarm["OKActions"] == ["Topic"] for alarm in ALARMS.values())
    assert all([target["Arn"] for target in rule["Targets"]] == ["Topic"] for rule in rules.values())
    (policy,) = of_type("AWS::SNS::TopicPolicy").values()
    by_alarms, by_rules = policy["PolicyDocument"]["Statement"]
    assert {"sns:Publish"} == {each["Action"] for each in (by_alarms, by_rules)}
    pattern = by_alarms["Condition"]["ArnLike"]["aws:SourceArn"]
    assert pattern == f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{GATEWAY}-*"
    assert all(alarm["AlarmName"].startswith(f"{GATEWAY}-") for alarm in ALARMS.values())
    # With a condition SNS would refuse what EventBridge publishes, and nobody would hear of it.
    assert by_rules == {
        "Sid": "Rules",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": "Topic",
    }


@pytest.mark.parametrize("name", ["watching.yaml", "alerts.yaml"])
def test_every_command_that_is_named_exists(name: str) -> None:
    named = re.findall(r"email-gateway ([a-z][a-z -]*)", (FOLDER / name).read_text())
    assert len(named) >= 8
    for words in named:
        assert any(f"{words} ".startswith(f"{command} ") for command in EVERY_COMMAND), words
