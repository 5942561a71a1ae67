"""What these commands share: the account of the settings, names of secrets, and progress on a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from email_gateway.cli.connecting import load_without_keys
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.printing import make_console
from email_gateway.operator.account import Account
from email_gateway.secrets.secret import SecretName


def secret(text: str) -> SecretName:
    """Read the name of a secret; typer shows this function's name as the type."""
    if text not in tuple(SecretName):
        raise typer.BadParameter(f"there is no secret of this name: {', '.join(SecretName)}")
    return SecretName(text)


Name = Annotated[
    SecretName, typer.Argument(metavar="NAME", parser=secret, help=f"The secret: {', '.join(SecretName)}.")
]
AbandonPending = Annotated[
    bool, typer.Option("--abandon-pending", help="Give up a rotation that has begun and not ended.")
]

MOST_BYTES = 65_536  # of a value in Secrets Manager
STANDARD_INPUT = Path("-")


def open_account() -> Account:
    """Return the account that the settings and the shell's credentials name."""
    return Account.open(load_without_keys())


@contextlib.contextmanager
def showing(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show that something goes on and where it is, on a terminal's standard error; machines get none."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    is_shown = not quiet and sys.stderr.isatty()
    with Progress(*columns, console=make_console(sys.stderr), transient=True, disable=not is_shown) as progress:
        task = progress.add_task(what, total=None)
        yield lambda where: progress.update(task, description=f"{what}: {where}")


def read_text(path: Path) -> str:
    """Return the text of a file, or of a pipe for `-`; raises CommandFailed, which does not quote it."""
    if path == STANDARD_INPUT and sys.stdin.isatty():
        raise CommandFailed("standard input is a terminal, which would show the value", "pipe it in, or name a file")
    raw = read_bytes(path, MOST_BYTES, "is longer than Secrets Manager takes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandFailed(
            f"{path} must be readable UTF-8 text",
            "store text: random bytes as base64, `openssl rand -base64 32 > FILE`",
        ) from None


def read_bytes(path: Path, most: int, too_long: str) -> bytes:
    """Return what a file holds, or a pipe for `-`; raises CommandFailed, also for more than so many octets."""
    try:
        if path == STANDARD_INPUT:
            read = sys.stdin.buffer.read(most + 1)
        else:
            with path.open("rb") as file:
                read = file.read(most + 1)
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    if len(read) > most:
        raise CommandFailed(f"{path} {too_long} ({most} bytes)")
    return read
