from datetime import timedelta

import pytest

from email_gateway.dashboard.rendering import TEMPLATES, show_after, show_size


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


@pytest.mark.parametrize(("octets", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (5_242_880, "5.0 MB")])
def test_a_size_reads_as_people_say_it(octets: int, shown: str) -> None:
    assert show_size(octets) == shown


def test_every_template_escapes_whatever_its_name() -> None:
    assert TEMPLATES.from_string("{{ value }}").render(value="<b>") == "&lt;b&gt;"
    assert TEMPLATES.autoescape is True
