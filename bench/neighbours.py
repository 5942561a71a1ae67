"""A tenant that sends 50 small mails a second beside one that weighs as much as it can."""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bench.gateway import Gateway, running

PER_SECOND = 50
COUNT = 1500  # thirty seconds
WARM_UP = 5.0  # the greedy one has begun by then
MOST_MEMORY = 512 * 1024 * 1024
# The kind of weight, how it is called, and what p99 may be beside it, in milliseconds.
KINDS = (
    ("", "alone", None),
    ("weights", "5 drips, 1,000 slow connections, 55 MiB bombs", 50.0),
    ("files", "two clients of 29 MiB", 20.0),
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What the small mails met: milliseconds, the greedy tenant's answers, and the most that a process held."""

    name: str
    p50: float
    p99: float
    target: float | None
    answers: dict[str, int]
    memory: int

    @property
    def is_met(self) -> bool:
        return (self.target is None or self.p99 < self.target) and self.memory < MOST_MEMORY


def measure(repeat: int, say: Callable[[str], None]) -> list[Beside]:
    """Measure beside each kind of weight; of several runs the one whose p99 is the median counts."""
    found: dict[str, list[Beside]] = {name: [] for _, name, _ in KINDS}
    for turn in range(1, repeat + 1):
        for kind, name, target in KINDS:
            say(f"small mails, {name} ({turn} of {repeat})")
            found[name].append(_measure(kind, name, target))
    return [sorted(each, key=lambda one: one.p99)[len(each) // 2] for each in found.values()]


def table_of(found: list[Beside]) -> Table:
    """Set the small mails' latency beside what it was promised to be."""
    table = Table(title=f"{PER_SECOND} small mails a second; none of them failed")
    for column in ("beside", "p50 ms", "p99 ms", "target", "largest process", "answers to the greedy one"):
        table.add_column(column, justify="left" if column in ("beside", "answers to the greedy one") else "right")
    for one in found:
        target = "" if one.target is None else f"< {one.target:.0f}: {'met' if one.is_met else 'missed'}"
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(one.answers.items()))
        table.add_row(
            one.name, f"{one.p50:.1f}", f"{one.p99:.1f}", target, f"{one.memory // 1024 // 1024} MiB", answers
        )
    return table


def _measure(kind: str, name: str, target: float | None) -> Beside:
    with running("api") as gateway:
        own = json.loads(gateway.command("tenants", "create", "greedy", "--json"))["api_key"]
        _steady(gateway, PER_SECOND)  # warm
        with _greedy(gateway, own, kind) as answers:
            took = sorted(_steady(gateway, COUNT))
            memory = highest_memory(gateway)
    p99 = took[int(len(took) * 0.99)]
    return Beside(name, statistics.median(took), p99, target, answers, memory)


def _steady(gateway: Gateway, count: int) -> list[float]:
    plan = {"port": gateway.port, "api_key": gateway.api_key, "per_second": PER_SECOND, "count": count}
    client = subprocess.run(
        [sys.executable, "-m", "bench.steady"], input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True
    )
    took: list[float] = json.loads(client.stdout)
    return took


@contextlib.contextmanager
def _greedy(gateway: Gateway, api_key: str, kind: str) -> Iterator[dict[str, int]]:
    """Have the other tenant weigh; what it was answered stands in the yielded dict at the end."""
    answers: dict[str, int] = {}
    if not kind:
        yield answers
        return
    client = subprocess.Popen(
        [sys.executable, "-m", "bench.greedy"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin
    assert client.stdout
    try:
        client.stdin.write(json.dumps({"port": gateway.port, "api_key": api_key, "kind": kind}) + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "begun\n"
        time.sleep(WARM_UP)
        yield answers
        client.stdin.close()
        answers |= json.loads(client.stdout.read())["answers"]
    finally:
        client.kill()
        client.wait()


def highest_memory(gateway: Gateway) -> int:
    """The most that the api process has held, or the one that prepares large messages for it, in bytes."""
    api = gateway.pid_of("api")
    children = Path(f"/proc/{api}/task/{api}/children").read_text().split()
    peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in (str(api), *children)]
    return max(int(peak[1]) * 1024 for peak in peaks if peak)
