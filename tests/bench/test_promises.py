"""What the load test of rotation calls broken: a promise that cannot break would promise nothing."""

from dataclasses import replace
from typing import Any

import pytest

from bench.rotations.acts import FULL_ORDER, SHORT_ORDER, Done, acts_of
from bench.rotations.promises import failures_of, latencies, promises_of
from bench.rotations.running import Plan, Report

DONE = Done("a rotation", 10.0, 0.5, 0.6, None)


def kept() -> Report:
    return Report(
        Plan(acts_of(SHORT_ORDER), 30, 60),
        done=[DONE],
        moments=[100.0],
        traffic={
            "samples": [[99.0, 0.010], [101.9, 0.010], [103.0, 0.005], [104.0, 0.005]],
            "kinds": {"send": 4},
            "failures": {},
            "cut_off_at": [],
        },
        opened={"message.content": {"opened": 4, "unreadable": 0}},
        read_back={"read": 4},
        revocations=1,
        revoked=1,
        refused_after=[0.4],
        is_refused_after_restart=True,
        log_bytes=1,
    )


def broken(report: Report) -> list[str]:
    return [promise.title for promise in promises_of(report) if not promise.is_kept]


def test_a_run_in_which_all_went_well_keeps_every_promise() -> None:
    assert broken(kept()) == []


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({"done": [replace(DONE, problem="late")]}, "every process follows each rotation in its time"),
        ({"opened": {"message.content": {"opened": 3, "unreadable": 1}}}, "no row is unreadable"),
        ({"opened": {}}, "no row is unreadable"),
        (
            {
                "opened": {
                    "message.content": {"opened": 4, "unreadable": 0},
                    "event.reply": {"opened": 0, "unreadable": 0},
                }
            },
            "no row is unreadable",
        ),
        ({"read_back": {"read": 4, "404 not_found": 1}}, "every mail reads as it was sent"),
        ({"read_back": {"read": 0}}, "every mail reads as it was sent"),
        ({"difference": 1}, "the books balance"),
        ({"unfinished": 1}, "no delivery is stuck"),
        ({"refused_after": [5.1]}, "a revoked admin key is refused on every process within 5 s"),
        ({"is_refused_after_restart": False}, "revoked admin keys stay refused on every process"),
        ({"leaks": ["api.log:1: a secret, clear"]}, "no secret and no personal data in a log"),
        ({"log_bytes": 0}, "no secret and no personal data in a log"),
    ],
)
def test_what_goes_wrong_breaks_the_promise_about_it(changed: dict[str, Any], title: str) -> None:
    assert broken(replace(kept(), **changed)) == [title]


@pytest.mark.parametrize("traffic", [{"failures": {"send: 503 database_unavailable": 1}}, {"cut_off_at": [50.0]}])
def test_a_failed_request_breaks_the_promise_about_them(traffic: dict[str, Any]) -> None:
    report = kept()
    assert broken(replace(report, traffic={**report.traffic, **traffic})) == ["no request fails"]


def test_what_went_down_with_a_killed_process_counts_as_no_failure_for_two_seconds() -> None:
    report = kept()
    cut_off = replace(report, kills=[50.0], traffic={**report.traffic, "cut_off_at": [49.9, 50.1, 51.9, 52.1]})
    assert failures_of(cut_off) == {"cut off though nothing was killed": 2}


def test_latency_near_a_change_is_told_apart() -> None:
    found = latencies(kept())
    assert [found[name].count for name in ("overall", "during", "between")] == [4, 2, 2]
    assert found["during"].p50 == pytest.approx(10.0)
    assert found["during"].p99 == pytest.approx(10.0)
    assert found["between"].p50 == pytest.approx(5.0)


def test_the_full_order_has_thirty_one_rotations_of_every_kind_the_short_one_seven() -> None:
    assert len(FULL_ORDER) == 31
    assert len(set(FULL_ORDER)) == 14
    assert len(SHORT_ORDER) == 7
