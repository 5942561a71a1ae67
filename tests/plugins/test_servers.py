"""The servers that a session shares: each worker has its own, so that no test meets another's rows or secrets."""

from pathlib import Path

from tests.plugins.running import run_pytest

TELLS = """
from pathlib import Path
def test_tells(postgres_url, moto_url, watch, worker_id):
    Path(__file__).with_name(worker_id).write_text('\\n'.join((postgres_url, moto_url, str(watch.folder))))
"""


def test_every_worker_has_servers_of_its_own_and_one_folder_takes_all_logs(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TELLS)
    each = ("-p", "xdist.plugin", "--dist", "each", "--tx", "2*popen")
    done = run_pytest("tests.conftest", each, tmp_path, TEST_DATABASE_URL="")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    one, two = ((tmp_path / worker).read_text().splitlines() for worker in ("gw0", "gw1"))
    assert one[0] != two[0]
    assert one[1] != two[1]
    assert one[2] == two[2]
