from datetime import timedelta

import pytest

from email_gateway.dashboard.rendering import TEMPLATES, show_after, show_length, show_short, show_size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0341, "+0.034 s"),
        (-1, "+0.000 s"),
        (59.9, "+59.900 s"),
        (125, "+2 min 5 s"),
        (10_900, "+3 h 1 min"),
        (200_000, "+2 d 7 h"),
    ],
)
def test_a_distance_in_time_reads_as_people_say_it(seconds: float, shown: str) -> None:
    assert show_after(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 s"), (34.9, "34 s"), (125, "2 min 5 s"), (10_900, "3 h 1 min"), (7_780_000, "90 d 1 h")],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert show_length(timedelta(seconds=seconds)) == shown


def test_a_name_is_shown_by_its_beginning() -> None:
    assert (show_short("11111111-aaaa-bbbb"), show_short("short")) == ("11111111", "short")


@pytest.mark.parametrize(("octets", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (5_242_880, "5.0 MB")])
def test_a_size_reads_as_people_say_it(octets: int, shown: str) -> None:
    assert show_size(octets) == shown


def test_every_template_escapes_whatever_its_name() -> None:
    assert TEMPLATES.from_string("{{ value }}").render(value="<b>") == "&lt;b&gt;"
    assert TEMPLATES.autoescape is True
