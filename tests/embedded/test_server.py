"""The embedded server against the real thing: starts, restarts, crashes, kills and rivals."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from email_gateway.embedded import EmbeddedPostgres, binaries
from email_gateway.embedded.account import server_account
from email_gateway.embedded.processes import spawn, stop
from email_gateway.errors import ConfigurationError, DatabaseUnavailable

PARENT = Path(__file__).with_name("parent.py")
# Long enough to outlive every test here, and it never looks whether its postmaster still lives.
BUSY = "SELECT count(*) FROM generate_series(1, 100000000000)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home below a directory of mode 0700, which root's unprivileged server may not search."""
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(home)
    yield embedded
    embedded.stop()


@pytest.fixture
def parent(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that starts the server in `home` and tells its URL and pid."""
    with subprocess.Popen([sys.executable, PARENT, str(home)], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def told_by(parent: subprocess.Popen[bytes]) -> tuple[str, int]:
    assert parent.stdout is not None
    told = json.loads(parent.stdout.readline())
    return told["url"], told["pid"]


def sql(url: str, statement: str) -> str:
    done = subprocess.run([binaries() / "psql", url, "-XAtqc", statement], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"never saw {what}"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # a zombie has none
    except OSError:
        return False


@pytest.fixture
def busy(server: EmbeddedPostgres) -> Iterator[int]:
    """The pid of a backend in the middle of a query that does not end."""
    url = server.start()
    client = subprocess.Popen(
        [binaries() / "psql", url, "-Xc", BUSY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    find = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> "
    wait_until(lambda: sql(url, find + "pg_backend_pid()"), "the query")
    yield int(sql(url, find + "pg_backend_pid()"))
    client.kill()
    client.wait()


def test_a_first_start_serves_and_a_second_keeps_data_port_and_password(server: EmbeddedPostgres, home: Path) -> None:
    url = server.start()
    sql(url, "CREATE TABLE kept AS SELECT 1 AS one")
    server.stop()
    again = EmbeddedPostgres(home)
    try:
        assert again.start() == url
        assert sql(url, "SELECT one FROM kept") == "1"
    finally:
        again.stop()


def test_starting_twice_leaves_the_running_server_alone(server: EmbeddedPostgres) -> None:
    url, pid = server.start(), server.pid
    assert (server.start(), server.pid) == (url, pid)


def test_what_is_committed_is_durable(server: EmbeddedPostgres) -> None:
    url = server.start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert sql(url, f"SHOW {setting}") == "on"


def test_nothing_runs_as_root_and_nothing_it_owns_is_roots(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    data = home / "postgres" / "data"
    for path in (data, *data.rglob("*")):
        assert path.stat().st_uid != 0, path
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_password_and_log_are_for_their_owner_only(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.password_of("somebody")
    for path in (home / "postgres" / "password", home / "postgres" / "somebody.password", home / "postgres.log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_password_of_a_login_stays_the_same_for_its_home(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    password = server.password_of("somebody")
    assert server.url_of("somebody") == server.url.replace(
        f"email_gateway:{server.url.split(':')[2].split('@')[0]}", f"somebody:{password}"
    )
    server.stop()
    again = EmbeddedPostgres(home)
    try:
        again.start()
        assert again.password_of("somebody") == password != again.password_of("another")
    finally:
        again.stop()


def test_no_connection_without_the_password_and_none_but_on_loopback(server: EmbeddedPostgres) -> None:
    url = server.start()
    wrong = url.replace(url.split("@")[0].rsplit(":", 1)[1], "guess")
    refused = subprocess.run([binaries() / "psql", wrong, "-Xc", "SELECT 1"], capture_output=True, check=False)
    assert refused.returncode != 0
    assert sql(url, "SHOW listen_addresses") == "127.0.0.1"
    assert sql(url, "SHOW unix_socket_directories") == ""
    assert sql(url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == "scram-sha-256"


def test_the_password_is_in_no_repr_no_log_and_no_command_line(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    password = (home / "postgres" / "password").read_text().strip()
    assert password not in repr(server)
    assert password not in (home / "postgres.log").read_text()
    assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_the_server_inherits_nothing_of_our_environment(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "marked-value-in-the-environment")
    server.start()
    assert b"marked-value" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_the_log_holds_no_value_of_a_failed_statement(server: EmbeddedPostgres, home: Path) -> None:
    url = server.start()
    sql(url, "CREATE TABLE person (tax_id text PRIMARY KEY); INSERT INTO person VALUES ('marked-52998224725')")
    for statement in (
        "INSERT INTO person VALUES ('marked-52998224725')",  # DETAIL: Key (tax_id)=(...) already exists
        "SELECT 'marked-52998224725'::uuid",  # ERROR: invalid input syntax for type uuid: "..."
        "DO $$ BEGIN RAISE WARNING 'marked-52998224725'; END $$",
        "SELECT marked_52998224725",
    ):
        subprocess.run([binaries() / "psql", url, "-Xc", statement], capture_output=True, check=False)
    log = (home / "postgres.log").read_text()
    assert "ready to accept connections" in log
    assert "52998224725" not in log


def test_a_killed_parent_takes_the_server_with_it(parent: subprocess.Popen[bytes]) -> None:
    _, pid = told_by(parent)
    assert is_running(pid)
    parent.kill()
    wait_until(lambda: not is_running(pid), "the end of the server")


def test_a_start_right_after_a_killed_parent_waits_for_its_server(
    parent: subprocess.Popen[bytes], server: EmbeddedPostgres
) -> None:
    url, pid = told_by(parent)
    sql(url, "CREATE TABLE kept AS SELECT 1 AS one")
    parent.kill()
    parent.wait()
    assert server.start() == url
    assert not is_running(pid)
    assert sql(url, "SELECT one FROM kept") == "1"


def test_a_killed_server_comes_back_on_its_port_with_its_data(server: EmbeddedPostgres) -> None:
    url = server.start()
    sql(url, "CREATE TABLE kept AS SELECT 1 AS one")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, "the end of the server")
    assert server.ensure_running()
    assert server.url == url
    assert sql(url, "SELECT one FROM kept") == "1"
    assert not server.ensure_running()


def test_a_backend_that_outlived_its_killed_server_is_ended(server: EmbeddedPostgres, busy: int) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, "the end of the server")
    assert is_running(busy)
    assert server.ensure_running()
    assert not is_running(busy)


def test_stopping_does_not_wait_for_a_long_query(server: EmbeddedPostgres, busy: int) -> None:
    server.stop()
    assert not is_running(busy)
    assert server.pid is None


def test_a_second_instance_in_one_home_is_refused_by_name(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    with pytest.raises(ConfigurationError, match=f"process {os.getpid()}.*--home"):
        EmbeddedPostgres(home).start()
    assert server.pid is not None


def test_two_homes_run_side_by_side(server: EmbeddedPostgres, tmp_path: Path) -> None:
    other = EmbeddedPostgres(tmp_path / "other")
    try:
        assert server.start() != other.start()
    finally:
        other.stop()
    assert server.pid is not None


def test_a_taken_port_is_left_and_another_remembered(server: EmbeddedPostgres, home: Path) -> None:
    url = server.start()
    server.stop()
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        assert server.start() != url
        server.stop()
    assert int((home / "postgres" / "port").read_text()) != port


def taken(port: int) -> socket.socket:
    """Listen on a port as soon as nobody else holds it: children of a killed server may for a moment."""
    made: list[socket.socket] = []

    def take() -> bool:
        with contextlib.suppress(OSError):
            made.append(socket.create_server(("127.0.0.1", port)))
        return bool(made)

    wait_until(take, "the port free")
    return made[0]


def test_a_restart_after_a_crash_insists_on_its_port(server: EmbeddedPostgres) -> None:
    url = server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, "the end of the server")
    with (
        taken(int(url.rsplit(":", 1)[1].split("/")[0])),
        pytest.raises(DatabaseUnavailable, match="did not start"),
    ):
        server.ensure_running()
    assert server.ensure_running()
    assert server.url == url


@pytest.mark.parametrize("content", ["", "999999999\n", "not a number\n"])
def test_a_broken_pid_file_does_not_block_a_start(server: EmbeddedPostgres, home: Path, content: str) -> None:
    server.start()
    server.stop()
    (home / "postgres" / "data" / "postmaster.pid").write_text(content)
    server.start()


@pytest.mark.parametrize("is_zombie", [False, True])
def test_a_pid_that_meanwhile_is_anothers_does_not_block_and_is_spared(
    server: EmbeddedPostgres, home: Path, is_zombie: bool
) -> None:
    server.start()
    server.stop()
    data = home / "postgres" / "data"
    stranger = spawn(["/bin/sleep", "600"], server_account(data), data, output=-3, errors=-3)
    try:
        if is_zombie:
            stranger.kill()
            wait_until(lambda: not is_running(stranger.pid), "a zombie")
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n1\n5432\n\n127.0.0.1\n  1  1\nready\n")
        server.start()
        assert is_running(stranger.pid) is not is_zombie
    finally:
        stop(stranger)


def test_a_killed_initialisation_is_begun_anew(
    home: Path, parent: subprocess.Popen[bytes], server: EmbeddedPostgres
) -> None:
    wait_until(lambda: list(home.glob("postgres/initialising-*/PG_VERSION")), "initdb at work")
    parent.kill()
    parent.wait()
    assert not (home / "postgres" / "data").exists()
    assert sql(server.start(), "SELECT 1") == "1"
    assert not list(home.glob("postgres/initialising-*/PG_VERSION"))


def test_a_missing_password_file_is_named(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.stop()
    (home / "postgres" / "password").unlink()
    with pytest.raises(ConfigurationError, match="postgres/password is missing"):
        server.start()


def test_data_of_another_major_version_is_refused(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.stop()
    (home / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigurationError, match="written by PostgreSQL 17"):
        server.start()


def test_a_server_that_cannot_start_says_why_and_frees_the_home(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.stop()
    control = home / "postgres" / "data" / "global" / "pg_control"
    whole = control.read_bytes()
    control.write_bytes(b"\0" * len(whole))
    with pytest.raises(DatabaseUnavailable, match=r"did not start: .+postgres\.log"):
        server.start()
    control.write_bytes(whole)
    server.start()


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot use .*file/home.*--home"):
        EmbeddedPostgres(tmp_path / "file" / "home").start()


def test_only_the_main_thread_may_start_it(server: EmbeddedPostgres) -> None:
    seen: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except RuntimeError as error:
            seen.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(seen[0])


def test_a_large_log_is_set_aside(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.stop()
    with (home / "postgres.log").open("ab") as log:
        log.truncate(11 * 1024 * 1024)
    server.start()
    assert (home / "postgres.log").stat().st_size < 1024 * 1024
    assert (home / "postgres.log.1").exists()
