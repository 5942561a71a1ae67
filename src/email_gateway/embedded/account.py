"""Which user the server runs as, and which directories that user can reach."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from email_gateway.errors import ConfigurationError

ROOT = 0
# The first of these that exists serves when we are root: PostgreSQL refuses to run as root. An
# operator who wants the data owned by a user of its own creates `email-gateway`; every Linux has `nobody`.
UNPRIVILEGED = ("email-gateway", "nobody")
READ_AND_SEARCH = 0o5
SEARCH = 0o1


@dataclass(frozen=True, slots=True)
class Account:
    """The user that owns the data directory and runs the server."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether we must change to this user first."""
        return self.uid != os.geteuid()

    def can_reach(self, path: Path) -> bool:
        """Whether the mode bits let this user search every parent of `path` and read (or enter) it.

        ACLs are not read: where only an ACL opens a directory, this errs towards "no".
        """
        path = path.resolve()
        return all(self._has(parent, SEARCH) for parent in path.parents) and self._has(path, READ_AND_SEARCH)

    def _has(self, path: Path, bits: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            mode = status.st_mode >> 6
        elif status.st_gid == self.gid:
            mode = status.st_mode >> 3
        else:
            mode = status.st_mode
        return mode & bits == bits


def server_account(data: Path) -> Account:
    """Return the user to run the server as: ourselves, or, for root, the data's owner or an unprivileged user.

    Raises ConfigurationError when another user owns the data and we are not root.
    """
    us = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if us != ROOT:
        if owner not in (None, us):
            raise ConfigurationError(
                f"{data} belongs to the user {_name(owner)}: run as that user or as root, "
                "or choose another directory with --home"
            )
        return Account(_name(us), us, os.getegid())
    if owner not in (None, ROOT):
        return Account(_name(owner), owner, data.stat().st_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and this system has no user "
        f"{' or '.join(UNPRIVILEGED)}: create one, run as a normal user, or set DATABASE_URL"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
