"""How fast a route goes after a refusal, and when a held one is tried: arithmetic, no clock."""

from datetime import timedelta

import pytest

from email_gateway.pace.rates import (
    BACK_OFF,
    LEAST_RATE,
    RECOVERY,
    STEEPEST_FALL,
    allowed_rate,
    pause_after_refusal,
    probe_wait,
    refused_rate,
)

SECONDS = RECOVERY.total_seconds()


def test_the_pace_begins_below_what_was_refused_returns_to_it_and_lingers() -> None:
    assert allowed_rate(100, 0) == pytest.approx(100 * BACK_OFF)
    assert allowed_rate(100, SECONDS) == pytest.approx(100)
    around = [allowed_rate(100, SECONDS * part) for part in (0.6, 1, 1.4)]
    assert max(around) - min(around) < 2, "near the limit it climbs slowly"


def test_the_pace_never_falls_by_itself_and_a_limit_that_was_lifted_is_outgrown_within_minutes() -> None:
    climbing = [allowed_rate(100, second) for second in range(120)]
    assert climbing == sorted(climbing)
    assert climbing[-1] > 1000


def test_the_first_refusal_says_what_the_server_took_in_a_second() -> None:
    assert refused_rate(None, 14) == 14
    assert refused_rate(None, 0) == 1


def test_a_later_refusal_lowers_the_pace_and_never_by_more_than_half() -> None:
    assert refused_rate(20, 14) == 14
    assert refused_rate(20, 1) == 20 * STEEPEST_FALL
    assert refused_rate(20, 50) == 20, "what was taken in a burst is no reason to go faster"
    assert refused_rate(LEAST_RATE, 0) == LEAST_RATE


def test_what_the_server_counts_in_passes_before_the_next_mail() -> None:
    assert pause_after_refusal(14) == 1
    assert pause_after_refusal(0.5) == 2


@pytest.mark.parametrize(
    ("reason", "first", "longest"),
    [
        ("connect_failed", 1, 5),
        ("timeout", 1, 5),
        ("auth_failed", 1, 60),
        ("account_paused", 1, 300),
    ],
)
def test_a_held_route_is_tried_after_a_second_and_then_less_and_less(reason: str, first: int, longest: int) -> None:
    waits = [probe_wait(reason, probes) for probes in range(500)]
    assert waits[0] == timedelta(seconds=first)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(seconds=longest)
