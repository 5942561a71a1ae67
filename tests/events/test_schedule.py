"""The waits between attempts: short for greylisting, then hours, over days in all."""

from datetime import timedelta

import pytest

from email_gateway.events.schedule import JITTER, WAITS, delay_after

DAYS = timedelta(days=5)


def test_each_wait_is_spread_by_a_fifth_and_no_more() -> None:
    for attempt, wait in enumerate(WAITS, start=1):
        delays = {delay_after(attempt, DAYS) for _ in range(200)}
        assert len(delays) > 1
        assert all(wait * (1 - JITTER) <= delay <= wait * (1 + JITTER) for delay in delays)


def test_waits_never_grow_beyond_the_last() -> None:
    assert delay_after(500, DAYS) <= WAITS[-1] * (1 + JITTER)


@pytest.mark.parametrize("seconds", [60, 600, 3600])
def test_a_short_life_holds_several_attempts(seconds: int) -> None:
    lifetime, elapsed, attempts = timedelta(seconds=seconds), timedelta(0), 1
    while (elapsed := elapsed + delay_after(attempts, lifetime)) < lifetime:
        attempts += 1
    assert attempts >= 4


def test_a_four_day_lifetime_holds_at_least_twenty_attempts() -> None:
    elapsed, attempts = timedelta(0), 0
    while elapsed < timedelta(days=4):
        attempts += 1
        elapsed += WAITS[min(attempts, len(WAITS)) - 1]
    assert attempts >= 20
