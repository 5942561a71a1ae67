"""`python -m bench.rotations`: every way to rotate, under steady load; exit code 1 when a promise is broken."""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.rotations.acts import FULL_ORDER, acts_of
from bench.rotations.promises import Promise, failures_of, latencies, promises_of
from bench.rotations.running import Plan, Report, run


def order_of(count: int) -> list[str]:
    """Return the names of so many rotations: the fixed order, again from the start when it is used up."""
    return [FULL_ORDER[turn % len(FULL_ORDER)] for turn in range(count)]


def tables_of(report: Report, promises: Sequence[Promise]) -> list[Table]:
    """Show the rotations, the promises and the latencies."""
    rotations = Table(title=f"{len(report.done)} rotations at {report.plan.rate:.0f} requests/s")
    for column in ("", "rotation", "acknowledged", "new root held", "problem"):
        rotations.add_column(column, justify="right" if column in ("acknowledged", "new root held") else "left")
    for number, done in enumerate(report.done, start=1):
        rotations.add_row(
            str(number),
            done.title,
            _seconds(done.acknowledged_seconds),
            "" if done.root_seconds is None else _seconds(done.root_seconds),
            done.problem or "",
        )
    kept = Table(title="Promises", show_lines=True)
    for column in ("", "promise", "figure"):
        kept.add_column(column)
    for promise in promises:
        kept.add_row("[green]kept" if promise.is_kept else "[red]BROKEN", promise.title, promise.figure)
    times = Table(title="Latency from the moment a request was due, ms")
    for column in ("", "requests", "p50", "p99"):
        times.add_column(column, justify="right" if column else "left")
    found = latencies(report)
    names = {"overall": "overall", "during": "within 2 s of a change", "between": "at other times"}
    for key, name in names.items():
        times.add_row(name, f"{found[key].count:,}", f"{found[key].p50:.1f}", f"{found[key].p99:.1f}")
    during, between = found["during"], found["between"]
    if between.p50 and between.p99:
        times.add_row("ratio", "", f"{during.p50 / between.p50:.2f} x", f"{during.p99 / between.p99:.2f} x")
    return [rotations, kept, times]


def as_json(report: Report, promises: Sequence[Promise]) -> dict[str, Any]:
    """Return what the tables show, for machines."""
    return {
        "promises": [dataclasses.asdict(promise) for promise in promises],
        "rotations": [dataclasses.asdict(done) for done in report.done],
        "latency_ms": {name: dataclasses.asdict(one) for name, one in latencies(report).items()},
        "failures": failures_of(report),
        "failed_at": report.traffic["failed_at"],
        "moments": report.moments,
        "opened": report.opened,
        "read_back": report.read_back,
    }


def _seconds(value: float | None) -> str:
    return "not in time" if value is None else f"{value:.2f} s"


def main() -> None:
    """Run it, with a progress bar on a terminal, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.rotations", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load lasts (10)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second (200)")
    parser.add_argument("--rotations", type=int, default=31, help="how many, spread over the time (31)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    plan = Plan(acts_of(order_of(options.rotations)), options.minutes * 60, options.rate)
    for number, act in enumerate(plan.acts, start=1):
        console.print(f"{number:3}  {act.title}", highlight=False)
    logs = Path(tempfile.mkdtemp(prefix="email-gateway-rotations-logs-"))
    columns = (BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    total = options.minutes * 60 * options.rate
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, told="starting")

        def say(what: str, done: int, failed: int) -> None:
            progress.update(bar, completed=min(done, total), told=f"{done:,} answered, {failed} failed; {what}")

        report = run(plan, logs, say)
    promises = promises_of(report)
    is_kept = all(promise.is_kept for promise in promises)
    if options.json:
        print(json.dumps(as_json(report, promises)))
    else:
        for table in tables_of(report, promises):
            console.print(table)
    if is_kept:
        shutil.rmtree(logs)
    else:
        console.print(f"The logs of every process are kept in {logs}")
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
