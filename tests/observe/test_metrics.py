import pytest

from email_gateway.observe import ACCEPTED, IN_DOUBT, LATE_RESULTS, OUTCOMES, REGISTRY, RESCUED, render_metrics


@pytest.mark.parametrize(
    ("counter", "name"),
    [
        (ACCEPTED, "email_gateway_accepted_total"),
        (IN_DOUBT, "email_gateway_in_doubt_total"),
        (RESCUED, "email_gateway_rescued_total"),
        (LATE_RESULTS, "email_gateway_late_results_total"),
    ],
)
def test_counters_show_under_their_names(counter: object, name: str) -> None:
    before = REGISTRY.get_sample_value(name) or 0.0
    counter.inc(2)  # type: ignore[attr-defined]
    assert REGISTRY.get_sample_value(name) == before + 2
    assert f"\n{name} ".encode() in render_metrics()


def test_outcomes_are_counted_by_verdict() -> None:
    OUTCOMES.labels(verdict="delivered").inc()
    assert b'email_gateway_delivery_outcomes_total{verdict="delivered"}' in render_metrics()
