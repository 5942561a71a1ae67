"""Secrets at hand: what a read costs, how long a start takes, and what a hung Secrets Manager does to requests.

`python -m bench.secrets [--json]`. Secrets Manager is moto behind a proxy that delays or withholds its answers.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from bench import gateway
from email_gateway.secrets import SecretsService
from email_gateway.settings import load_settings
from tests.fault_proxy import EVERY, Fault, FaultProxy, fault_proxy
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server

PREFIX = "email-gateway"
VALUES = {name: f"only-for-the-bench-{name}-0123456789abcdef" for name in ("encryption-key", "encryption-salt")}
VALUES["admin-api-key"] = "only-for-the-bench-admin-api-key-0123456789"
READS = 200_000
STARTS = 5
LATENCY_SECONDS = 0.05
PER_SECOND = 100
TURNS, TURN_SECONDS, WARM_UP_SECONDS = 6, 5, 1  # of each kind: 30 s that count
REFRESH_SECONDS = 1  # the cache's life while nothing answers: one refresh gives up and the next begins
PATIENCE_SECONDS = 60.0

Say = Callable[[str], None]


class Figure(TypedDict):
    """One figure beside its peer's, in `unit`; `ratio` is ours divided by it. `met` is None without a target."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None
    target: str
    met: bool | None


def figure(
    name: str, unit: str, ours: float, peer: tuple[str, float] | None = None, below: float | None = None
) -> Figure:
    """Set ours beside the peer and the target, an upper bound."""
    return Figure(
        name=name,
        unit=unit,
        ours=ours,
        peer=peer[1] if peer else None,
        peer_name=peer[0] if peer else "",
        ratio=ours / peer[1] if peer else None,
        target="" if below is None else f"{below:,.0f} {unit}",
        met=None if below is None else ours <= below,
    )


@dataclass(frozen=True)
class Dark:
    """A Secrets Manager that can be made to fail, and the environment of a process that uses it."""

    proxy: FaultProxy
    environ: dict[str, str]

    def start(self, which: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.starting", which],
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@contextlib.contextmanager
def behind_proxy(moto: str) -> Iterator[Dark]:
    """Put a proxy in front of moto."""
    with fault_proxy(moto) as (proxy, url):
        environ = {
            **AWS_ENVIRONMENT,
            "USE_SECRETS_MANAGER": "true",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": url,
            "SECRETS_PREFIX": PREFIX,
        }
        proxy.latency = LATENCY_SECONDS
        yield Dark(proxy, environ)


async def measure_reads() -> Figure:
    """A read of a secret at hand, beside a read of a plain dict."""
    environ = {name.upper().replace("-", "_"): value for name, value in VALUES.items()}
    service = await SecretsService.start(load_settings(environ))
    plain = dict(VALUES)

    def nanoseconds(code: str) -> float:
        names = {"service": service, "plain": plain}
        return statistics.median(timeit.repeat(code, globals=names, number=READS, repeat=7)) / READS * 1e9

    ours, peer = nanoseconds("service.get('encryption-key').value"), nanoseconds("plain['encryption-key']")
    await service.close()
    return figure("a read of a secret at hand", "ns", ours, ("dict", peer), below=1000)


def measure_starts(dark: Dark) -> list[Figure]:
    """A start with slow answers, beside the same process with bare boto3 and one secret; in turns."""
    dark.proxy.faults[EVERY] = Fault.SLOW
    seconds: dict[str, list[dict[str, float]]] = {"gateway": [], "boto3": []}
    for _ in range(STARTS):
        for which, found in seconds.items():
            found.append(json.loads(dark.start(which).communicate(timeout=PATIENCE_SECONDS)[0]))
    dark.proxy.faults.clear()

    def median(which: str, part: str) -> float:
        return statistics.median(each[part] for each in seconds[which]) * 1000

    peer = "boto3, one secret"
    late = f"answers {LATENCY_SECONDS * 1000:.0f} ms late"
    return [
        figure(
            f"start with all secrets, {late}", "ms", median("gateway", "start"), (peer, median("boto3", "start")), 1000
        ),
        figure("imports before it", "ms", median("gateway", "import"), (peer, median("boto3", "import"))),
    ]


@contextlib.contextmanager
def hung_start(moto: str) -> Iterator[Callable[[], Figure]]:
    """Begin a start that nobody answers; it mostly waits, and may do so beside other measurements."""
    with behind_proxy(moto) as dark:
        dark.proxy.faults[EVERY] = Fault.HANG
        process = dark.start("gateway")

        def give_up() -> Figure:
            ended = json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0])
            if "Failed to fetch secrets" not in ended["end"]:
                raise RuntimeError("the start gave no reason")
            return figure("a start that nobody answers gives up", "s", ended["start"], below=15)

        try:
            yield give_up
        finally:
            process.kill()
            process.wait()


def measure_latency(dark: Dark, say: Say) -> list[Figure]:
    """POST /v1/emails at a steady pace with Secrets Manager well, and while every refresh hangs; in turns."""
    found: dict[str, list[float]] = {"well": [], "hangs": []}
    with gateway.running(**dark.environ) as running:
        for turn in range(1, TURNS + 1):
            for state in list(found)[:: 1 if turn % 2 else -1]:  # so that neither is always the later one
                say(f"requests while Secrets Manager {state} ({turn} of {TURNS})")
                running.start("api", **({"SECRETS_CACHE_SECONDS": str(REFRESH_SECONDS)} if state == "hangs" else {}))
                if state == "hangs":
                    hang(dark.proxy)
                found[state] += send_steadily(running)[WARM_UP_SECONDS * PER_SECOND :]
                dark.proxy.faults.clear()
                running.end("api")
    return [
        figure(f"POST /v1/emails at {PER_SECOND}/s, {name}, while every refresh hangs", "ms",
               percentile(found["hangs"], rank), ("while it is well", percentile(found["well"], rank)))
        for name, rank in (("p50", 50), ("p99", 99))
    ]  # fmt: skip


def hang(proxy: FaultProxy) -> None:
    """Answer nothing from now on, and wait until a request hangs."""
    proxy.faults[EVERY] = Fault.HANG
    asked, deadline = len(proxy.requests), time.monotonic() + PATIENCE_SECONDS
    while len(proxy.requests) == asked:
        if time.monotonic() > deadline:
            raise RuntimeError("the gateway did not refresh its secrets")
        time.sleep(0.01)


def send_steadily(running: gateway.Gateway) -> list[float]:
    """Send from a process of its own; return each request's milliseconds in order."""
    count = PER_SECOND * (WARM_UP_SECONDS + TURN_SECONDS)
    plan = {"port": running.port, "api_key": running.api_key, "per_second": PER_SECOND, "count": count}
    client = subprocess.run(
        [sys.executable, "-m", "bench.steady"],
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    return list(json.loads(client.stdout))


def percentile(values: Sequence[float], rank: int) -> float:
    """Return the value that `rank` of a hundred are below."""
    return statistics.quantiles(values, n=100)[rank - 1]


def measure(say: Say = lambda _: None) -> list[Figure]:
    """Measure everything, once; under a minute."""
    with moto_server() as moto, behind_proxy(moto) as dark:
        create_secrets(connect(moto), PREFIX, VALUES)
        with hung_start(moto) as give_up:
            say("reads and starts")
            figures = [asyncio.run(measure_reads()), *measure_starts(dark), give_up()]
        return [*figures, *measure_latency(dark, say)]


def table_of(figures: Sequence[Figure]) -> Table:
    """Lay the figures out beside their peers and targets."""
    table = Table(title="Secrets (upper bounds as targets; ratio: ours divided by the peer's)")
    for column in ("", "ours", "peer", "", "ratio", "target", ""):
        table.add_column(column, justify="right" if column else "left")
    for each in figures:
        peer = "" if each["peer"] is None else f"{each['peer']:,.1f} {each['unit']}"
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.2f}"
        verdict = {None: "", True: "met", False: "missed"}[each["met"]]
        ours = f"{each['ours']:,.1f} {each['unit']}"
        table.add_row(each["name"], ours, peer, each["peer_name"], ratio, each["target"], verdict)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.secrets", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 150)
    with console.status("measuring") as status:
        figures = measure(status.update)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        console.print(table_of(figures))


if __name__ == "__main__":
    main()
