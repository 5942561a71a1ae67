"""What seals and opens an export: public and secret keys from files, a passphrase from a terminal or a file."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.secrets.account import read_bytes, read_text
from email_gateway.operator import age_file
from email_gateway.operator.exported import Export, parse_document

# Of an export: seven secrets of at most a hundred versions and 64 KiB each come to less.
MOST_BYTES = 64 * 1024 * 1024

ExportFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file that `secrets export` wrote.")]
IdentityFile = Annotated[
    Path | None,
    typer.Option("--identity-file", metavar="PATH", help="The secret key that opens it, as `age-keygen` writes it."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="PATH",
        help="A file with the passphrase on its first line; `-` reads a pipe, /dev/fd/3 a file descriptor."
        " Without it you are asked at the terminal.",
    ),
]


def read_recipients(texts: Iterable[str], files: Iterable[Path]) -> list[age_file.Recipient]:
    """Return the public keys of the command line and of files, which have one a line."""
    recipients = []
    for number, text in enumerate(texts, start=1):
        recipients.append(_parse(f"recipient {number}", text.strip()))
    for file in files:
        lines = [(number, line.strip()) for number, line in enumerate(read_text(file).splitlines(), start=1)]
        named = [(number, line) for number, line in lines if line and not line.startswith("#")]
        if not named:
            raise CommandFailed(f"{file} holds no public key", "write one age1... a line into it")
        recipients += [_parse(f"{file}, line {number},", line) for number, line in named]
    return recipients


def choose_passphrase(file: Path | None) -> str:
    """Return the passphrase to seal with, from a file or asked for twice at the terminal."""
    if file is not None:
        passphrase = _read_passphrase(file)
    else:
        _require_terminal("give --recipient age1..., --recipients-file PATH, or --passphrase-file PATH")
        passphrase = typer.prompt("Passphrase", hide_input=True, confirmation_prompt="The same again", err=True)
    try:
        return age_file.check_passphrase(passphrase)
    except ValueError as wrong:
        raise CommandFailed(f"the passphrase {wrong}", "or seal it for a public key, with --recipient") from None


def open_export(file: Path, identity_file: Path | None, passphrase_file: Path | None) -> Export:
    """Return what an export holds, opened in memory only. Raises CommandFailed, OperationRefused."""
    sealed = read_bytes(file, MOST_BYTES, "is too long for an export")
    if not age_file.needs_passphrase(sealed):
        return parse_document(age_file.open_by(_read_identities(file, identity_file), sealed))
    if identity_file is not None:
        raise CommandFailed(f"{file} opens with a passphrase", "leave --identity-file away")
    if passphrase_file is not None:
        passphrase = _read_passphrase(passphrase_file)
    else:
        _require_terminal("give --passphrase-file PATH")
        passphrase = typer.prompt("Passphrase", hide_input=True, err=True)
    return parse_document(age_file.open_with(passphrase, sealed))


def _parse(where: str, text: str) -> age_file.Recipient:
    try:
        return age_file.parse_recipient(text)
    except ValueError as wrong:
        raise CommandFailed(f"{where} {wrong}") from None


def _read_identities(file: Path, identity_file: Path | None) -> list[age_file.Identity]:
    if identity_file is None:
        raise CommandFailed(f"{file} opens with a secret key", "give it with --identity-file PATH")
    try:
        return age_file.parse_identities(read_text(identity_file))
    except ValueError as wrong:
        raise CommandFailed(f"{identity_file} {wrong}", "name the file that `age-keygen` wrote") from None


def _read_passphrase(file: Path) -> str:
    passphrase = read_text(file).partition("\n")[0].rstrip("\r")
    if not passphrase:
        raise CommandFailed(f"{file} has no passphrase on its first line")
    return passphrase


def _require_terminal(instead: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to ask for a passphrase", instead)
