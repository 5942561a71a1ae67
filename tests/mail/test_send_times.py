from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.send_times import MAX_AHEAD, MAX_BEHIND, is_american_summer, parse_send_time

NOW = datetime(2026, 11, 30, 8, 10, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00"),
        ("2026-12-01T09:00:00.123456789z", "2026-12-01T09:00:00.123456"),
        ("2026-12-01T09:00:00-03:00", "2026-12-01T12:00"),
        ("2026-12-01 09:00", "2026-12-01T09:00"),
        ("now", "2026-11-30T08:10"),
        ("in 1 min", "2026-11-30T08:11"),
        ("In 90 Seconds", "2026-11-30T08:11:30"),
        ("in an hour", "2026-11-30T09:10"),
        ("in  2 hours ", "2026-11-30T10:10"),
        ("in 2 weeks", "2026-12-14T08:10"),
        ("in 30 days", "2026-12-30T08:10"),
        ("today at 18:30", "2026-11-30T18:30"),
        ("today at noon", "2026-11-30T12:00"),
        ("tomorrow at 9am", "2026-12-01T09:00"),
        ("tomorrow 9:30 pm", "2026-12-01T21:30"),
        ("tomorrow at midnight", "2026-12-01T00:00"),
        ("tomorrow at 12am", "2026-12-01T00:00"),
        ("tomorrow at 9am -03:00", "2026-12-01T12:00"),
        ("tomorrow at 9am UTC+5:30", "2026-12-01T03:30"),
        ("today at 11pm -10", "2026-11-30T09:00"),  # there it is still Sunday
        ("Friday at 3pm ET", "2026-12-04T20:00"),
        ("friday at 3pm EDT", "2026-12-04T19:00"),
        ("Fri 15:00 PT", "2026-12-04T23:00"),
        ("monday at 8:11", "2026-11-30T08:11"),
        ("monday at 8:10", "2026-12-07T08:10"),  # now is not to come
    ],
)
def test_a_time_is_read_in_utc_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert parse_send_time(text, NOW) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "tomorrow",
        "next friday at 9am",
        "friday at 9",
        "at 9am",
        "in 1",
        "in five minutes",
        "in -1 hours",
        "in 1.5 hours",
        "in 999999 weeks",
        "tomorrow at 25:00",
        "tomorrow at 9:60",
        "tomorrow at 13pm",
        "tomorrow at 0am",
        "tomorrow at 9am XT",
        "tomorrow at 9am +15:00",
        "2026-12-01",
        "2026-W49-2T09:00",
        "20261201T090000Z",
        "2026-02-30T09:00Z",
        "2026-12-01T09:00:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "in \u0661 min",
        "1764579600",
        "in" + 70 * " " + "1 min",
    ],
)
def test_everything_else_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(InvalidValue, match=r"use ISO 8601 .*Friday at 3pm ET"):
        parse_send_time(text, NOW)


@pytest.mark.parametrize("text", ["in 31 days", "2026-12-30T08:10:01Z", "9999-12-31T00:00Z"])
def test_a_time_beyond_thirty_days_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="within 30 days"):
        parse_send_time(text, NOW)


def test_a_time_that_has_just_passed_is_due_and_one_of_long_ago_a_mistake() -> None:
    """A request that is repeated within the day of its Idempotency-Key is answered as it was."""
    assert parse_send_time("2026-11-29T08:10Z", NOW) == NOW - MAX_BEHIND
    with pytest.raises(InvalidValue, match="has passed"):
        parse_send_time("2026-11-29T08:09:59Z", NOW)


@pytest.mark.parametrize(
    ("local", "is_summer"),
    [
        ("2026-03-08T01:59", False),
        ("2026-03-08T02:00", True),
        ("2026-11-01T01:59", True),
        ("2026-11-01T02:00", False),
        ("2027-03-14T02:00", True),
        ("2027-03-13T23:00", False),
        ("2027-11-07T01:59", True),
        ("2027-11-07T02:00", False),
    ],
)
def test_american_summer_begins_and_ends_on_sundays(local: str, is_summer: bool) -> None:
    assert is_american_summer(datetime.fromisoformat(local)) is is_summer


@given(st.text(max_size=80))
def test_any_text_is_a_moment_within_bounds_or_refused(text: str) -> None:
    try:
        moment = parse_send_time(text, NOW)
    except InvalidValue:
        return
    assert NOW - MAX_BEHIND <= moment <= NOW + MAX_AHEAD


@given(st.timedeltas(min_value=-MAX_BEHIND, max_value=MAX_AHEAD), st.integers(-14 * 60, 14 * 60))
def test_what_a_clock_writes_is_read_back(ahead: timedelta, offset_minutes: int) -> None:
    moment = (NOW + ahead).astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert parse_send_time(moment.isoformat(), NOW) == moment
