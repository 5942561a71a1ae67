"""Where the programs run from when the server's user cannot reach the wheel."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from email_gateway.embedded import EmbeddedPostgres, binaries, default_home
from email_gateway.embedded.account import Account, server_account
from email_gateway.embedded.programs import INSTALLATION, LIBRARIES, PACKAGE, copy_programs, programs_for

STRANGER = Account("stranger", 54321, 54321)


@pytest.fixture
def closed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel installed below a directory of mode 0700, as under root's own home."""
    site = tmp_path / "closed"
    package = binaries().parent.parent
    (site / PACKAGE / INSTALLATION).mkdir(parents=True)
    (site / PACKAGE / "__init__.py").write_text("")
    for part in ("bin", "lib/postgresql", "share/postgresql"):
        shutil.copytree(package / INSTALLATION / part, site / PACKAGE / INSTALLATION / part)
    shutil.copytree(package.parent / LIBRARIES, site / LIBRARIES)
    site.chmod(0o700)
    monkeypatch.syspath_prepend(str(site))
    return site


def test_the_programs_are_postgresql_18() -> None:
    said = subprocess.run([binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("postgres (PostgreSQL) 18.")


def test_the_default_home_is_the_systems_for_root_and_the_users_otherwise() -> None:
    if os.geteuid() == 0:
        assert default_home() == Path("/var/lib/email-gateway")
    else:
        assert default_home().is_relative_to(Path.home())


def test_a_server_runs_from_a_wheel_that_its_user_cannot_reach(closed_wheel: Path, open_directory: Path) -> None:
    assert binaries().is_relative_to(closed_wheel)
    server = EmbeddedPostgres(open_directory)
    try:
        server.start()
        used = Path(f"/proc/{server.pid}/exe").readlink()
    finally:
        server.stop()
    account = server_account(open_directory / "postgres" / "data")
    assert account.can_reach(used) or not account.is_other
    assert used.is_relative_to(open_directory if account.is_other else closed_wheel)


def test_a_copy_is_made_once_and_whole(closed_wheel: Path, open_directory: Path) -> None:
    account = server_account(open_directory / "data")
    first = programs_for(account, open_directory)
    made = first.stat().st_ctime_ns
    assert programs_for(account, open_directory) == first
    assert first.stat().st_ctime_ns == made
    assert not list(open_directory.glob("postgres/bin-*.*.*.*"))  # nothing half-made is left beside


def test_a_copy_is_open_to_everyone_whatever_our_umask(open_directory: Path) -> None:
    before = os.umask(0o077)
    try:
        copy_programs(binaries(), open_directory / "postgres" / "bin-test")
    finally:
        os.umask(before)
    for path in (open_directory / "postgres" / "bin-test").rglob("*"):
        assert STRANGER.can_reach(path), path


def test_two_copies_at_once_end_in_one(open_directory: Path) -> None:
    copy = open_directory / "postgres" / "bin-test"
    copy_programs(binaries(), copy)
    copy_programs(binaries(), copy)  # as one that lost the race: the other's copy stands
    assert [path.name for path in copy.parent.iterdir()] == ["bin-test"]
