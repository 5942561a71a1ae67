import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.cli.printing import print_json, print_table, print_wrapped, show, show_duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (-1, "0.0 s"),
        (2.34, "2.3 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3_700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert show_duration(timedelta(seconds=seconds)) == shown


def test_a_sentence_stays_within_the_page_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_wrapped("a \x1b[2J word " * 20, indent=6)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("      ") and len(line) <= 79 for line in lines)
    assert "\x1b" not in "".join(lines)


def test_nothing_is_shown_as_a_dash_and_several_with_commas() -> None:
    assert show(None) == "-"
    assert show(()) == "-"
    assert show(("a", "b")) == "a, b"


def test_a_table_that_goes_to_a_file_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 150
    print_table("Title", ["one", "two"], [(long, long)])
    assert f"{long} " in capsys.readouterr().out


def test_values_in_a_table_are_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ["name"], [("[red]acme[/red]",)])
    assert "[red]acme[/red]" in capsys.readouterr().out


def test_json_is_one_line_of_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    identity = uuid.uuid4()
    print_json(
        {"id": identity, "at": datetime(2026, 1, 2, tzinfo=UTC), "for": timedelta(seconds=1.5), "key": b"\x01\xff"}
    )
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert json.loads(told) == {"id": str(identity), "at": "2026-01-02T00:00:00+00:00", "for": 1.5, "key": "01ff"}
