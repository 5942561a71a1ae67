"""A real api and a real worker, and both faces of their metrics: what Prometheus scrapes, what CloudWatch reads."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from email_gateway.observe.emf import EmbeddedMetrics
from tests.cli.test_parts import make_api_key
from tests.fault_proxy import Fault
from tests.moto_server import AWS_ENVIRONMENT, REGION
from tests.plugins.secrets_manager import Aws
from tests.up.running import MAIL, PATIENCE_SECONDS, eventually

OURS = "email_gateway_"
LIFETIME_SECONDS = 1

Told = tuple[str, frozenset[str]]


@dataclass
class Faces:
    """Texts for Prometheus by process, and the documents for CloudWatch, of processes that have ended since."""

    served: dict[str, str] = field(default_factory=dict)
    emitted: list[dict[str, Any]] = field(default_factory=list)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Every sample of ours that was served: name, labels, value."""
        for text in self.served.values():
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name.startswith(OURS) and not sample.name.endswith("_created"):
                        yield sample.name, sample.labels, sample.value

    @property
    def served_names(self) -> set[str]:
        return {name for name, _, _ in self.samples()}

    def told_once_moved(self) -> set[Told]:
        """What CloudWatch gets, by name and dimensions, once every counter that is served has moved."""
        return {
            each
            for text in self.served.values()
            for line in EmbeddedMetrics(Moved(text), gateway="email-gateway", source="-").list_lines(datetime.now(UTC))
            for each in told_by(json.loads(line))
        }


class Moved(Collector):
    """A served text as a registry in which each counter has counted one more, and nothing is unknown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def collect(self) -> Iterable[Metric]:
        for family in text_string_to_metric_families(self._text):
            moved = Metric(family.name, family.documentation, family.type)
            for sample in family.samples:
                moved.add_sample(sample.name, sample.labels, sample.value + 1)
            yield moved


def told_by(document: dict[str, Any]) -> Iterator[Told]:
    """Name and dimensions of each metric that CloudWatch makes of a document."""
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for dimensions in directive["Dimensions"]:
            for metric in directive["Metrics"]:
                yield metric["Name"], frozenset(dimensions)


def run_both(aws: Aws, database_url: str, folder: Path) -> Faces:
    """Run an api and a worker through a mail and a secret that is denied until it is stale."""
    environ = {
        "PATH": os.environ["PATH"],
        **AWS_ENVIRONMENT,
        "APP_ENV": "production",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": aws.url,
        "SECRETS_PREFIX": aws.prefix,
        "SECRETS_CACHE_SECONDS": str(LIFETIME_SECONDS),
        "DATABASE_URL": database_url,
        "TRANSPORT": "inbox",
        "REQUIRE_VERIFIED_DOMAINS": "false",
        "METRICS_EMF": "true",
    }
    ports = {name: free_port() for name in ("api", "worker", "site")}
    faces = Faces()
    with (
        running(folder, environ, "api", ports["api"], "--port", str(ports["site"])) as api,
        running(folder, environ, "worker", ports["worker"]) as worker,
    ):
        site = f"http://127.0.0.1:{ports['site']}"
        assert eventually(lambda: is_ready(site))
        key = make_api_key(database_url)
        httpx.post(f"{site}/v1/emails", json=MAIL, headers={"authorization": f"Bearer {key}"}).raise_for_status()
        aws.proxy.faults["admin-api-key"] = Fault.DENIED
        assert eventually(lambda: is_worn_out(faces, ports))
        assert httpx.get(f"{site}/metrics").text.count("# TYPE email_gateway_") == faces.served["api"].count(
            "# TYPE email_gateway_"
        )
        for process in (api, worker):
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
    for name in ("api", "worker"):
        faces.emitted += [json.loads(line) for line in (folder / f"{name}.out").read_text().splitlines()]
    return faces


def is_worn_out(faces: Faces, ports: dict[str, int]) -> bool:
    """Scrape both; True once mail was delivered, access was denied, and a secret is stale beyond two lifetimes."""
    for process in ("api", "worker"):
        with contextlib.suppress(httpx.TransportError):
            faces.served[process] = httpx.get(f"http://127.0.0.1:{ports[process]}/metrics").text
    shown = {(name, *sorted(labels.values())): value for name, labels, value in faces.samples()}
    return (
        shown.get(("email_gateway_delivery_outcomes_total", "kept"), 0) >= 1
        and shown.get(("email_gateway_secret_refresh_total", "admin-api-key", "denied"), 0) >= 1
        and shown.get(("email_gateway_secrets_age_seconds", "admin-api-key"), 0) > 2 * LIFETIME_SECONDS
    )


def is_ready(site: str) -> bool:
    try:
        return httpx.get(f"{site}/v1/health/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def running(
    folder: Path, environ: dict[str, str], part: str, port: int, *arguments: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a part whose standard output goes to a file, and its metrics to this port."""
    with (folder / f"{part}.out").open("w") as out, (folder / f"{part}.log").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "email_gateway.cli", part, *arguments],
            cwd=folder,
            env={**environ, "METRICS_LISTEN": f"127.0.0.1:{port}"},
            stdout=out,
            stderr=errors,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
