"""Who runs the server, and what that user can reach."""

import os
import pwd
from pathlib import Path

import pytest

from email_gateway.embedded.account import Account, server_account

STRANGER = Account("stranger", 54321, 54321)


@pytest.mark.parametrize(("mode", "reachable"), [(0o755, True), (0o711, False), (0o700, False), (0o055, True)])
def test_the_mode_bits_of_the_directory_itself_decide(mode: int, reachable: bool, open_directory: Path) -> None:
    open_directory.chmod(mode)
    assert STRANGER.can_reach(open_directory) is reachable


def test_a_closed_parent_closes_everything_below(open_directory: Path) -> None:
    below = open_directory / "closed" / "open"
    below.mkdir(parents=True)
    for directory in (below, below.parent):
        directory.chmod(0o755)
    assert STRANGER.can_reach(below)
    below.parent.chmod(0o700)
    assert not STRANGER.can_reach(below)


def test_the_owner_is_judged_by_the_owners_bits(open_directory: Path) -> None:
    status = open_directory.stat()
    owner = Account("owner", status.st_uid, status.st_gid)
    open_directory.chmod(0o077)
    assert not owner.can_reach(open_directory)
    group = Account("of the group", 54321, status.st_gid)
    open_directory.chmod(0o705)
    assert not group.can_reach(open_directory)
    open_directory.chmod(0o750)
    assert group.can_reach(open_directory)


def test_root_serves_as_an_unprivileged_user_and_others_as_themselves(tmp_path: Path) -> None:
    account = server_account(tmp_path / "not made yet")
    if os.geteuid() == 0:
        assert account.uid != 0
        assert account.is_other
        assert pwd.getpwnam(account.name).pw_uid == account.uid
    else:
        assert account.uid == os.geteuid()
        assert not account.is_other
