"""The plugin in a pytest of its own: whatever leaks fails the session, and so does silence."""

import os
import subprocess
import sys
from pathlib import Path

from tests.marks import MARK

ROOT = Path(__file__).parents[2]
DEBUG_LINE = 'def test_logs(watch) -> None:\n    watch.keep(\'api.log\', \'{"level":"debug","event":"request"}\')\n'


def run(folder: Path, content: str, file: str = "test_it.py") -> tuple[int, str]:
    """Run a test file with the plugin; return the exit code and everything pytest printed."""
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    command = [sys.executable, "-m", "pytest", "-p", "tests.plugins.marks", "-c", os.devnull, "-q"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, f"--rootdir={folder}", path], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
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


def test_every_leak_is_named_without_its_text_and_fails_the_session(tmp_path: Path) -> None:
    imports = "import logging, subprocess\nfrom email_gateway.observe import get_logger\n"
    tests = [A_LEAK.format(number=n, name=name, leak=leak) for n, (name, leak) in enumerate(LEAKS.items())]
    exit_code, output = run(tmp_path, imports + "".join(tests))
    assert exit_code == 1
    assert f"{len(LEAKS)} passed" in output
    for number, name in enumerate(LEAKS):
        assert f": {name}, " in output
        assert f"q{number}" * 4 not in output


def test_a_leak_is_reported_with_its_file_and_line_and_the_file_is_kept(tmp_path: Path) -> None:
    _, output = run(tmp_path, f"def test_passes(watch) -> None:\n    watch.keep('worker-1.log', 'one\\n\\n{MARK}')\n")
    (report,) = [line for line in output.splitlines() if "worker-1.log:" in line]
    place, _, what = report.partition(": ")
    file, _, number = place.rpartition(":")
    assert Path(file).read_text().splitlines()[int(number) - 1] == MARK
    assert what == "a mark, clear"


def test_quiet_tests_pass_and_leave_nothing_behind(tmp_path: Path) -> None:
    content = (
        "from email_gateway.observe import get_logger\n"
        "def test_passes() -> None:\n"
        f"    get_logger('x').info('x', subject='{MARK}')\n"
        "    print('nothing personal')\n"
    )
    exit_code, output = run(tmp_path, content)
    assert exit_code == 0, output
    assert not list(tmp_path.glob("email-gateway-test-logs-*"))


def test_flow_tests_that_leave_no_debug_line_fail_the_session(tmp_path: Path) -> None:
    silent = "def test_logs(watch) -> None:\n    watch.keep('api.log', 'info')\n"
    exit_code, output = run(tmp_path, silent, "flow/test_it.py")
    assert exit_code == 1
    assert "nothing is proven" in output
    exit_code, output = run(tmp_path, DEBUG_LINE, "flow/test_it.py")
    assert exit_code == 0, output
    exit_code, output = run(tmp_path, silent, "other/test_it.py")
    assert exit_code == 0, output


def test_a_failed_session_stays_failed(tmp_path: Path) -> None:
    exit_code, output = run(tmp_path, "def test_fails() -> None:\n    assert False\n")
    assert exit_code == 1
    assert "1 failed" in output
