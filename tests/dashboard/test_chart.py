from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.dashboard.chart import HEIGHT, LEFT, STRIP_WIDTH, WIDTH, draw_hour, draw_strip, round_up
from email_gateway.mail.deliveries import State
from email_gateway.store.statistics import Minute

START = datetime(2026, 11, 23, 20, 6, tzinfo=UTC)


def hour(*accepted: int) -> list[Minute]:
    return [Minute(START + timedelta(minutes=n), count, count // 2, 0) for n, count in enumerate(accepted)]


def test_bars_stand_inside_the_picture_and_do_not_overlap() -> None:
    chart = draw_hour(hour(*range(0, 60 * 137, 137)))
    assert len(chart.bars) == 60
    for bar, after in zip(chart.bars, chart.bars[1:], strict=False):
        assert bar.x + bar.width <= after.x
    assert chart.bars[0].x >= LEFT
    assert chart.bars[-1].x + chart.bars[-1].width <= WIDTH
    for bar in chart.bars:
        assert bar.accepted_y >= 0
        assert bar.accepted_y + bar.accepted_height == pytest.approx(chart.baseline, abs=0.02)
    assert chart.baseline < HEIGHT


def test_the_busiest_minute_is_named_and_the_sums_are_right() -> None:
    chart = draw_hour(hour(0, 4, 10, 2))
    assert chart.busiest is not None
    assert chart.busiest.at == START + timedelta(minutes=2)
    assert (chart.accepted, chart.delivered) == (16, 8)


def test_an_idle_hour_and_no_hour_at_all_can_be_drawn() -> None:
    assert draw_hour(hour(*[0] * 60)).busiest is None
    assert draw_hour([]).bars == ()


@pytest.mark.parametrize(
    ("value", "top"), [(0, 4), (4, 4), (5, 10), (11, 20), (21, 40), (41, 100), (999, 1000), (480_001, 1_000_000)]
)
def test_the_scale_ends_at_a_round_number_that_halves(value: int, top: int) -> None:
    assert round_up(value) == top
    assert top % 2 == 0


def test_the_strip_is_filled_and_the_smallest_share_is_seen() -> None:
    strip = draw_strip({State.DELIVERED: 1_000_000, State.DEAD: 1, State.QUEUED: 0})
    assert [segment.state for segment in strip] == [State.DELIVERED, State.DEAD]
    assert strip[1].width >= 6
    assert strip[1].x + strip[1].width == pytest.approx(STRIP_WIDTH, abs=0.02)
    assert draw_strip(dict.fromkeys(State, 0)) == ()
