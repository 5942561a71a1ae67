"""What goes to which worker, and when there are none."""

from pathlib import Path

import pytest

from tests.plugins.running import run_pytest

TELLS = """
import os, pytest
@pytest.mark.parametrize('number', range(6))
def test_tells(number, request):
    with open('{told}', 'a', buffering=1) as told:
        told.write(os.environ.get('PYTEST_XDIST_WORKER', 'alone') + ' ' + request.node.path.parent.name + '\\n')
"""


def run(folder: Path, *options: str, named: str = "") -> list[tuple[str, str]]:
    """Run two long files and a short one of six tests; return for each test its worker and its room, as they began."""
    for file in ("api/test_a.py", "flow/test_b.py", "histories/test_c.py"):
        (folder / file).parent.mkdir()
        (folder / file).write_text(TELLS.format(told=folder / "told"))
    done = run_pytest("tests.plugins.workers", options, folder, named)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "told").read_text().splitlines()
    return [(worker, room) for worker, _, room in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_a_file_stays_in_one_worker_and_several_work_at_once(tmp_path: Path, workers: str) -> None:
    told = run(tmp_path, "-p", "xdist.plugin", "-n", workers)
    assert len(told) == 18
    pairs = set(told)
    assert len(pairs) == 3
    assert len({worker for worker, _ in pairs}) > 1


def test_what_takes_longest_begins_first(tmp_path: Path) -> None:
    told = run(tmp_path, "-p", "xdist.plugin", "-n", "1")
    assert [room for _, room in told] == ["histories"] * 6 + ["flow"] * 6 + ["api"] * 6


def test_one_file_needs_no_worker(tmp_path: Path) -> None:
    told = run(tmp_path, "-p", "xdist.plugin", "-n", "auto", named="flow/test_b.py")
    assert set(told) == {("alone", "flow")}


@pytest.mark.parametrize("how", [("-p", "no:xdist"), ("-p", "xdist.plugin", "-n", "0")])
def test_one_process_can_be_asked_for(tmp_path: Path, how: tuple[str, ...]) -> None:
    assert {worker for worker, _ in run(tmp_path, *how)} == {"alone"}
