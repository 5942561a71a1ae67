"""The plugin in a pytest of its own, with and without workers: whatever leaks fails the session, and so does silence."""

from pathlib import Path

from tests.marks import MARK
from tests.plugins.running import SIDE_BY_SIDE, Way, run_pytest, ways

DEBUG_LINE = 'def test_logs(watch) -> None:\n    watch.keep(\'api.log\', \'{"level":"debug","event":"request"}\')\n'


def run(folder: Path, way: Way, content: str, file: str = "test_it.py") -> tuple[int, str]:
    """Run a test file with the plugin; return the exit code and everything pytest printed."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    done = run_pytest("tests.plugins.marks", (*way, "-q"), folder, TMPDIR=str(folder))
    return done.returncode, done.stdout + done.stderr


# Each is a line of a test of its own, which passes; `secret` is what must not be logged there.
LEAKS = {
    "printed": "print(secret)",
    "said by a child": "subprocess.run(['sh', '-c', f'echo {secret} >&2'])",
    "logged in hex": "get_logger('x').info('x', request_id=secret.encode().hex())",
    "logged at DEBUG": "get_logger('x').debug('x', reason=secret)",
    "logged by another library": "logging.getLogger('uvicorn').error(secret)",
    "heard from a process": "watch.keep('worker-1.log', f'one\\ntwo {secret}')",
    "broken over two lines": "watch.keep('worker-1.log', secret[:4] + '=\\n' + secret[4:])",
}
A_LEAK = """
def test_{number}(watch) -> None:
    secret = 'q{number}' * 16
    watch.add('{name}', secret)
    {leak}
"""


@ways
def test_every_leak_is_named_without_its_text_and_fails_the_session(tmp_path: Path, way: Way) -> None:
    imports = "import logging, subprocess\nfrom email_gateway.observe import get_logger\n"
    tests = [A_LEAK.format(number=n, name=name, leak=leak) for n, (name, leak) in enumerate(LEAKS.items())]
    exit_code, output = run(tmp_path, way, imports + "".join(tests))
    assert exit_code == 1
    assert f"{len(LEAKS)} passed" in output
    for number, name in enumerate(LEAKS):
        assert f": {name}, " in output
        assert f"q{number}" * 4 not in output


@ways
def test_a_leak_is_reported_with_its_file_and_line_and_the_file_is_kept(tmp_path: Path, way: Way) -> None:
    _, output = run(
        tmp_path, way, f"def test_passes(watch) -> None:\n    watch.keep('worker-1.log', 'one\\n\\n{MARK}')\n"
    )
    (report,) = [line for line in output.splitlines() if "worker-1.log:" in line]
    place, _, what = report.partition(": ")
    file, _, number = place.rpartition(":")
    assert Path(file).read_text().splitlines()[int(number) - 1] == MARK
    assert what == "a mark, clear"


@ways
def test_quiet_tests_pass_and_leave_nothing_behind(tmp_path: Path, way: Way) -> None:
    content = (
        "from email_gateway.observe import get_logger\n"
        "def test_passes() -> None:\n"
        f"    get_logger('x').info('x', subject='{MARK}')\n"
        "    print('nothing personal')\n"
    )
    exit_code, output = run(tmp_path, way, content)
    assert exit_code == 0, output
    assert not list(tmp_path.glob("email-gateway-test-logs-*"))


@ways
def test_flow_tests_that_leave_no_debug_line_fail_the_session(tmp_path: Path, way: Way) -> None:
    silent = "def test_logs(watch) -> None:\n    watch.keep('api.log', 'info')\n"
    exit_code, output = run(tmp_path / "1", way, silent, "flow/test_it.py")
    assert exit_code == 1
    assert "nothing is proven" in output
    exit_code, output = run(tmp_path / "2", way, DEBUG_LINE, "flow/test_it.py")
    assert exit_code == 0, output
    exit_code, output = run(tmp_path / "3", way, silent, "other/test_it.py")
    assert exit_code == 0, output


@ways
def test_what_is_printed_while_tests_are_collected_is_searched_as_well(tmp_path: Path, way: Way) -> None:
    exit_code, output = run(tmp_path, way, f"print('{MARK}')\ndef test_passes() -> None: ...\n")
    assert exit_code == 1
    assert "pytest.log:" in output
    assert ": a mark, clear" in output


@ways
def test_a_failed_session_stays_failed(tmp_path: Path, way: Way) -> None:
    exit_code, output = run(tmp_path, way, "def test_fails() -> None:\n    assert False\n")
    assert exit_code == 1
    assert "1 failed" in output


def test_what_one_worker_must_hide_is_found_where_another_heard_it(tmp_path: Path) -> None:
    content = (
        "import pathlib\n"
        "def tell(worker_id, name):\n    pathlib.Path(__file__).with_name(worker_id).write_text(name)\n"
        "def test_hides(watch, worker_id) -> None:\n"
        "    watch.add('a password', 'q' * 32)\n    tell(worker_id, 'hides')\n"
        "def test_hears(watch, worker_id) -> None:\n"
        "    watch.keep('api.log', 'q' * 32)\n    tell(worker_id, 'hears')\n"
    )
    exit_code, output = run(tmp_path, SIDE_BY_SIDE, content)
    assert {(tmp_path / worker).read_text() for worker in ("gw0", "gw1")} == {"hides", "hears"}
    assert exit_code == 1
    assert "2 passed" in output
    assert "api.log:1: a password, clear" in output
