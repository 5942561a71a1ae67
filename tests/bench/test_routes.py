"""What `python -m bench --only routes` makes of its figures: a promise that is missed is shown and ends with 1."""

from io import StringIO

from rich.console import Console

from bench.routes import Figure, as_plain, exit_code, table_of

MET = Figure("14/s, 1 worker", "s", 41.9, 43.9, 0.01, "1.3 x, 5%", is_kept=True)
MISSED = Figure("10 codes beside 20,000", "s", None, 2.5, None, "< 2 s", is_kept=False)


def shown(*figures: Figure) -> str:
    console = Console(width=80, file=StringIO())
    console.print(table_of(figures))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_promise_that_is_met_ends_with_0_and_one_that_is_missed_with_1() -> None:
    assert exit_code([MET]) == 0
    assert exit_code([MET, MISSED]) == 1


def test_the_table_sets_ours_beside_the_ideal_and_names_what_was_missed() -> None:
    line = next(line for line in shown(MET).splitlines() if "14/s, 1 worker" in line)
    for cell in ("41.9 s", "43.9 s", "1.05 x", "1.0%", "1.3 x, 5%", "met"):
        assert cell in line
    assert "missed" not in shown(MET)
    assert "missed" in shown(MISSED)


def test_machines_get_the_ratio_too() -> None:
    met, missed = as_plain([MET, MISSED])
    assert round(met["ratio"], 2) == 1.05
    assert (missed["ratio"], missed["is_kept"]) == (None, False)
