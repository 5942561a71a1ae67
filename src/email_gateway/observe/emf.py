"""The metrics of this process for CloudWatch: lines of JSON on standard output, in its Embedded Metric Format.

CloudWatch Logs makes metrics of such lines by itself, so the process needs no permission and no agent:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

NAMESPACE = "EmailGateway"
OURS = "email_gateway_"
EVERY = timedelta(minutes=1)
# The specification allows 100. A line below PIPE_BUF (4,096 octets, pipe(7)) is written whole, also where several
# processes share a pipe.
MOST_METRICS = 15
# A secret's name is left out of a second set of dimensions: one alarm then watches them all.
FOLDED = "name"

Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, str, float]


class EmbeddedMetrics:
    """Turns what a registry counts into lines, and knows what the lines before have told.

    Names and labels are those of Prometheus; one dimension more, `gateway`, tells apart what runs in one account.
    A counter tells what was added since, so that CloudWatch may sum over processes and time; nothing added is no
    line. A gauge tells its value, unless that is infinite or unknown.
    """

    def __init__(self, counted: Collector, *, gateway: str, source: str) -> None:
        self._counted = counted
        self._gateway = gateway
        self._source = source
        self._told: dict[tuple[str, Labels], float] = {}

    def list_lines(self, at: datetime) -> list[str]:
        """Return the lines of this moment; what they tell of counters is not told again."""
        samples = sorted(self._read(self._counted.collect()))
        return [
            self._line(dict(labels), part, at)
            for labels, alike in groupby(samples, key=lambda sample: sample[0])
            for part in _split([(name, value) for _, name, value in alike])
        ]

    def _read(self, families: Iterable[Metric]) -> Iterator[Sample]:
        for family in families:
            if not family.name.startswith(OURS):
                continue
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                if family.type == "gauge" and math.isfinite(sample.value):
                    yield labels, sample.name, sample.value
                elif sample.name.endswith("_total"):
                    before = self._told.get((sample.name, labels), 0.0)
                    self._told[sample.name, labels] = sample.value
                    if sample.value > before:
                        yield labels, sample.name, sample.value - before

    def _line(self, labels: dict[str, str], values: list[tuple[str, float]], at: datetime) -> str:
        dimensions = [["gateway", *labels]]
        if FOLDED in labels:
            dimensions.append([name for name in dimensions[0] if name != FOLDED])
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": dimensions,
            "Metrics": [{"Name": name, "Unit": unit_of(name)} for name, _ in values],
        }
        document = {
            "_aws": {"Timestamp": int(at.timestamp() * 1000), "CloudWatchMetrics": [directive]},
            "gateway": self._gateway,
            "source": self._source,
            **labels,
            **{name: round(value, 3) for name, value in values},
        }
        return json.dumps(document, separators=(",", ":"))


def unit_of(name: str) -> str:
    """Return CloudWatch's unit of a metric, which its name says."""
    return "Seconds" if name.endswith("_seconds") else "Count"


def _split(values: list[tuple[str, float]]) -> Iterator[list[tuple[str, float]]]:
    for begin in range(0, len(values), MOST_METRICS):
        yield values[begin : begin + MOST_METRICS]


@contextlib.asynccontextmanager
async def emitting(metrics: EmbeddedMetrics) -> AsyncIterator[None]:
    """Write the lines every minute meanwhile, and once more at the end: what was counted is told."""
    task = asyncio.create_task(_keep_emitting(metrics))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        write_lines(metrics.list_lines(datetime.now(UTC)))


async def _keep_emitting(metrics: EmbeddedMetrics) -> None:
    while True:
        await asyncio.sleep(EVERY.total_seconds())
        write_lines(metrics.list_lines(datetime.now(UTC)))


def write_lines(lines: Iterable[str]) -> None:
    """Write each line whole to standard output."""
    # A closed pipe or a full disk must not end the process that is watched.
    with contextlib.suppress(OSError, ValueError):
        for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
