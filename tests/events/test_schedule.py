"""The waits between attempts: short for greylisting, then hours, over days in all."""

from datetime import timedelta

from email_gateway.events.schedule import JITTER, WAITS, delay_after


def test_each_wait_is_spread_by_a_fifth_and_no_more() -> None:
    for attempt, wait in enumerate(WAITS, start=1):
        delays = {delay_after(attempt) for _ in range(200)}
        assert len(delays) > 1
        assert all(wait * (1 - JITTER) <= delay <= wait * (1 + JITTER) for delay in delays)


def test_waits_never_grow_beyond_the_last() -> None:
    assert delay_after(500) <= WAITS[-1] * (1 + JITTER)


def test_a_four_day_lifetime_holds_at_least_twenty_attempts() -> None:
    elapsed, attempts = timedelta(0), 0
    while elapsed < timedelta(days=4):
        attempts += 1
        elapsed += WAITS[min(attempts, len(WAITS)) - 1]
    assert attempts >= 20
