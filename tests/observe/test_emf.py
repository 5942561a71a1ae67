"""Lines for CloudWatch: what a registry counts, in a form that CloudWatch takes."""

import asyncio
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from email_gateway.observe import emf
from email_gateway.observe.emf import EmbeddedMetrics, emitting, unit_of, write_lines
from tests.observe.emf_schema import check_document

AT = datetime(2026, 11, 29, 12, 0, 0, 250_000, tzinfo=UTC)
PIPE_BUF = 4096


@pytest.fixture
def counted() -> CollectorRegistry:
    return CollectorRegistry()


def metrics_of(counted: CollectorRegistry) -> EmbeddedMetrics:
    return EmbeddedMetrics(counted, gateway="email-gateway", source="api 4711 on mail-1")


def tell(metrics: EmbeddedMetrics) -> list[dict[str, Any]]:
    documents = [json.loads(line) for line in metrics.list_lines(AT)]
    for document in documents:
        check_document(document)
    return documents


def test_a_gauge_is_told_with_its_value_unit_and_moment(counted: CollectorRegistry) -> None:
    Gauge("email_gateway_queue_age_seconds", "x", registry=counted).set(12.34567)
    (document,) = tell(metrics_of(counted))
    assert document == {
        "_aws": {
            "Timestamp": 1_795_953_600_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "EmailGateway",
                    "Dimensions": [["gateway"]],
                    "Metrics": [{"Name": "email_gateway_queue_age_seconds", "Unit": "Seconds"}],
                }
            ],
        },
        "gateway": "email-gateway",
        "source": "api 4711 on mail-1",
        "email_gateway_queue_age_seconds": 12.346,
    }


def test_a_counter_tells_what_was_added_since_the_line_before(counted: CollectorRegistry) -> None:
    counter = Counter("email_gateway_accepted", "x", registry=counted)
    metrics = metrics_of(counted)
    assert tell(metrics) == []
    counter.inc(5)
    assert tell(metrics)[0]["email_gateway_accepted_total"] == 5
    counter.inc(2)
    assert tell(metrics)[0]["email_gateway_accepted_total"] == 2
    assert tell(metrics) == []


def test_labels_become_dimensions_and_the_secrets_name_can_be_left_out(counted: CollectorRegistry) -> None:
    Counter("email_gateway_secret_refresh", "x", ["name", "result"], registry=counted).labels("smtp-url", "ok").inc()
    (document,) = tell(metrics_of(counted))
    assert document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [
        ["gateway", "name", "result"],
        ["gateway", "result"],
    ]
    assert (document["name"], document["result"]) == ("smtp-url", "ok")


def test_what_has_the_same_labels_shares_a_line(counted: CollectorRegistry) -> None:
    for name in ("age", "stale"):
        Gauge(f"email_gateway_{name}", "x", ["name"], registry=counted).labels("smtp-url").set(1)
    Gauge("email_gateway_root_keys", "x", ["state"], registry=counted).labels("active").set(1)
    by_labels = {document.get("name") or document["state"]: document for document in tell(metrics_of(counted))}
    assert {"email_gateway_age", "email_gateway_stale"} <= set(by_labels["smtp-url"])
    assert by_labels["active"]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["gateway", "state"]]


@pytest.mark.parametrize("value", [math.inf, math.nan, -math.inf])
def test_what_is_unknown_or_infinite_is_not_told(counted: CollectorRegistry, value: float) -> None:
    Gauge("email_gateway_secrets_lifetime_seconds", "x", registry=counted).set(value)
    assert tell(metrics_of(counted)) == []


def test_what_is_not_ours_is_not_told(counted: CollectorRegistry) -> None:
    Gauge("process_open_fds", "x", registry=counted).set(1)
    assert tell(metrics_of(counted)) == []


def test_many_metrics_are_told_in_lines_that_a_pipe_takes_whole(counted: CollectorRegistry) -> None:
    for number in range(100):
        Gauge(f"email_gateway_a_metric_with_a_rather_long_name_of_its_own_{number}_seconds", "x", registry=counted)
    lines = metrics_of(counted).list_lines(AT)
    assert max(len(line) for line in lines) < PIPE_BUF
    told = [name for line in lines for name in json.loads(line) if name.startswith("email_gateway")]
    assert len(set(told)) == len(told) == 100


def test_units_are_said_by_names() -> None:
    assert [unit_of(name) for name in ("email_gateway_queue_age_seconds", "email_gateway_accepted_total")] == [
        "Seconds",
        "Count",
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("_aws"),
        lambda document: document["_aws"].pop("Timestamp"),
        lambda document: document["_aws"]["CloudWatchMetrics"][0].update(Namespace=""),
        lambda document: document["_aws"]["CloudWatchMetrics"][0].update(Anything=1),
        lambda document: document["_aws"]["CloudWatchMetrics"][0]["Metrics"][0].update(Unit="Furlongs"),
        lambda document: document.update(email_gateway_age="twelve"),
        lambda document: document.update(gateway=""),
    ],
)
def test_the_schema_refuses_what_cloudwatch_would(
    counted: CollectorRegistry, spoil: Callable[[dict[str, Any]], object]
) -> None:
    Gauge("email_gateway_age", "x", registry=counted).set(1)
    (document,) = tell(metrics_of(counted))
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        check_document(document)


@pytest.mark.anyio
async def test_what_was_counted_since_the_last_minute_is_told_at_the_end(
    counted: CollectorRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter("email_gateway_accepted", "x", registry=counted)
    async with emitting(metrics_of(counted)):
        counter.inc()
    assert json.loads(capsys.readouterr().out)["email_gateway_accepted_total"] == 1


@pytest.mark.anyio
async def test_lines_come_again_and_again_meanwhile(
    counted: CollectorRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emf, "EVERY", timedelta(milliseconds=1))
    Gauge("email_gateway_dead_letters", "x", registry=counted)
    async with emitting(metrics_of(counted)), asyncio.timeout(10):
        told = ""
        while told.count("\n") < 2:
            await asyncio.sleep(0.005)
            told += capsys.readouterr().out
    assert len({json.loads(line)["_aws"]["Timestamp"] for line in told.splitlines()}) > 1


class Closed:
    """A standard output whose reader is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_closed_standard_output_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Closed())
    write_lines(["{}"])
