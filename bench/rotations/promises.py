"""What a run must show, each with its figure; a run keeps its promises or it does not."""

import statistics
from dataclasses import dataclass

from bench.rotations.operator import REFUSALS
from bench.rotations.running import Report

CUT_OFF_WITHIN_SECONDS = 2.0
DURING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that must hold, what was found, and whether it held."""

    title: str
    figure: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and 99th percentile in milliseconds, from the moment a request was due."""

    count: int
    p50: float
    p99: float


def promises_of(report: Report) -> list[Promise]:
    """Judge a report."""
    return [*_of_traffic(report), *_of_rotations(report), *_of_rows(report), *_of_keys(report), _of_logs(report)]


def latencies(report: Report) -> dict[str, Latency]:
    """Return the latency of all requests, of those near a change, and of the others."""
    near: list[float] = []
    far: list[float] = []
    moments = sorted(report.moments)
    for due, seconds in report.traffic["samples"]:
        is_near = any(moment - DURING_SECONDS <= due <= moment + DURING_SECONDS for moment in moments)
        (near if is_near else far).append(seconds * 1000)
    return {"overall": _latency(near + far), "during": _latency(near), "between": _latency(far)}


def _latency(milliseconds: list[float]) -> Latency:
    if len(milliseconds) < 2:
        return Latency(len(milliseconds), 0.0, 0.0)
    cuts = statistics.quantiles(milliseconds, n=100)
    return Latency(len(milliseconds), cuts[49], cuts[98])


def failures_of(report: Report) -> dict[str, int]:
    """Return the failed requests by kind. What an api process took with it when we killed it is no failure."""
    failures: dict[str, int] = dict(report.traffic["failures"])
    stray = [moment for moment in report.traffic["cut_off_at"] if not _is_by_kill(report, moment)]
    return failures | ({"cut off though nothing was killed": len(stray)} if stray else {})


def _is_by_kill(report: Report, moment: float) -> bool:
    return any(kill <= moment <= kill + CUT_OFF_WITHIN_SECONDS for kill in report.kills)


def _of_traffic(report: Report) -> list[Promise]:
    failures = failures_of(report)
    count, kinds = len(report.traffic["samples"]), report.traffic["kinds"]
    cut_off = sum(_is_by_kill(report, moment) for moment in report.traffic["cut_off_at"])
    made = ", ".join(f"{kinds[kind]:,} {kind}" for kind in sorted(kinds))
    figure = f"{sum(failures.values())} of {count:,} ({made})"
    if cut_off:
        figure += f"; {cut_off} went down with a killed process and were repeated"
    figure += "".join(f"; {number} x {kind}" for kind, number in failures.items())
    return [Promise("no request fails", figure, not failures)]


def _of_rotations(report: Report) -> list[Promise]:
    problems = [f"{done.title}: {done.problem}" for done in report.done if done.problem]
    acknowledged = [done.acknowledged_seconds for done in report.done if done.acknowledged_seconds is not None]
    roots = [done.root_seconds for done in report.done if done.root_seconds is not None]
    figure = f"{len(report.done) - len(problems)} of {len(report.done)} rotations"
    if acknowledged:
        figure += f"; acknowledged in {statistics.median(acknowledged):.2f} s (slowest {max(acknowledged):.2f} s)"
    if roots:
        figure += f"; new root held in {statistics.median(roots):.2f} s (slowest {max(roots):.2f} s)"
    title = "every process follows each rotation in its time"
    return [Promise(title, "; ".join((figure, *problems)), not problems)]


def _of_rows(report: Report) -> list[Promise]:
    opened = sum(counts["opened"] for counts in report.opened.values())
    unreadable = sum(counts["unreadable"] for counts in report.opened.values())
    parts = ", ".join(f"{counts['opened']:,} {field}" for field, counts in report.opened.items())
    wrong = {kind: count for kind, count in report.read_back.items() if kind != "read"}
    back = f"{report.read_back['read']:,} read" + "".join(f"; {count} x {kind}" for kind, count in wrong.items())
    return [
        Promise(
            "no row is unreadable",
            f"{unreadable} of {opened + unreadable:,} ({parts})",
            # Of a kind that never came up nothing is known.
            not unreadable and opened > 0 and all(counts["opened"] for counts in report.opened.values()),
        ),
        Promise("every mail reads as it was sent", back, not wrong and report.read_back["read"] > 0),
        Promise("the books balance", f"difference {report.difference}", report.difference == 0),
        Promise("no delivery is stuck", f"{report.unfinished} unfinished", report.unfinished == 0),
    ]


def _of_keys(report: Report) -> list[Promise]:
    if not report.revoked:
        return []
    in_time = [seconds for seconds in report.refused_after if seconds <= report.plan.revoked_within]
    at_once = f"{len(in_time)} of {report.revocations} revocations, seen on {REFUSALS} new connections each"
    if report.refused_after:
        at_once += f"; the slowest {max(report.refused_after):.2f} s after the request"
    later = f"{report.revoked} revoked keys, {report.refusal_connections} new connections after a restart of all"
    return [
        Promise(
            f"a revoked admin key is refused on every process within {report.plan.revoked_within:.0f} s",
            at_once,
            len(in_time) == report.revocations,
        ),
        Promise("revoked admin keys stay refused on every process", later, report.is_refused_after_restart),
    ]


def _of_logs(report: Report) -> Promise:
    figure = f"{len(report.leaks)} found in {report.log_bytes / 1e6:.1f} MB" + "".join(
        f"; {leak}" for leak in report.leaks[:5]
    )
    return Promise("no secret and no personal data in a log", figure, not report.leaks and report.log_bytes > 0)
