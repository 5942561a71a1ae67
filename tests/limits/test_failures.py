"""Failures counted in memory: a window that moves, and never more clients than there is room for."""

import time

from email_gateway.limits.failures import MAX_CLIENTS, RecentFailures


def test_a_client_waits_for_its_oldest_failure_to_leave_the_window() -> None:
    failures = RecentFailures(3, 0.3)
    for _ in range(2):
        failures.add("one")
    assert failures.wait_seconds("one") == 0
    failures.add("one")
    assert failures.wait_seconds("one") == 1
    assert failures.wait_seconds("other") == 0
    time.sleep(0.35)
    assert failures.wait_seconds("one") == 0


def test_clients_that_stopped_failing_are_forgotten() -> None:
    failures = RecentFailures(3, 0.05)
    for number in range(100):
        failures.add(str(number))
    time.sleep(0.06)
    failures.add("last")
    assert len(failures) == 1


def test_a_crowd_does_not_fill_memory_and_whoever_keeps_failing_stays() -> None:
    failures = RecentFailures(3, 60)
    for number in range(2 * MAX_CLIENTS):
        failures.add(str(number))
        if number % 1000 == 0:
            failures.add("guesser")
    assert len(failures) == MAX_CLIENTS
    assert failures.wait_seconds("guesser") > 0
