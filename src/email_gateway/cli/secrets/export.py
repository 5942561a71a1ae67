"""`email-gateway secrets export`: an offline copy of every live version, sealed before it is written."""

import os
from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.cli.secrets.account import open_account, showing
from email_gateway.cli.secrets.age import PassphraseFile, choose_passphrase, read_recipients
from email_gateway.operator.age_file import seal_for, seal_with
from email_gateway.operator.exported import Export, write_document
from email_gateway.operator.exporting import LeftOut, collect

app = typer.Typer()


@app.command(
    epilog=examples(
        "email-gateway secrets export secrets.age --recipient age1...",
        "email-gateway secrets export secrets.age        # asks for a passphrase",
    )
)
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not be there yet.")],
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AGE1...", help="A public key that it is sealed for; may be repeated.", show_default=False
        ),
    ] = None,
    recipients_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="A file of public keys, one a line; may be repeated.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write every live version of every secret into an age file, for whom it is sealed.

    Live are the versions that carry a label: the current ones, those before, pending ones, and older keys and
    salts that a backup of the database may need. Nothing in clear touches the disk or is shown. Take another
    one after every rotation, keep it where no AWS credential reaches, and try it with `secrets drill`.
    """
    if (recipient or recipients_file) and passphrase_file is not None:
        raise typer.BadParameter("give recipients or a passphrase, not both")
    _refuse_present(file)
    recipients = read_recipients(recipient or (), recipients_file or ())
    passphrase = "" if recipients else choose_passphrase(passphrase_file)
    with showing("reading", quiet=as_json) as show:
        found, left_out = collect(open_account(), show)
        document = write_document(found)
        sealed = seal_for(recipients, document) if recipients else seal_with(passphrase, document)
    _write_new(file, sealed)
    if as_json:
        print_json(_as_plain(file, found, left_out))
    else:
        sealed_for = ", ".join(map(str, recipients)) if recipients else "a passphrase"
        _print(file, found, left_out, f"{len(sealed)} bytes, sealed for {sealed_for}")


def _write_new(file: Path, sealed: bytes) -> None:
    """Write a file of mode 0600 that was not there; on the disk when we return, and gone where that fails."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        _refuse_present(file)
        raise
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(sealed)
            opened.flush()
            os.fsync(descriptor)
        _sync_folder(file.parent)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise CommandFailed(
            f"cannot write {file}: {error.strerror}", "nothing is left of it: free some space"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_present(file: Path) -> None:
    if os.path.lexists(file):
        raise CommandFailed(f"{file} is there already, and an export overwrites nothing", "give another name")


def _as_plain(file: Path, found: Export, left_out: list[LeftOut]) -> dict[str, object]:
    secrets = [
        {
            "name": secret.name,
            "versions": [
                {"version_id": each.version_id, "labels": each.labels, "created_at": each.created_at}
                for each in secret.versions
            ],
        }
        for secret in found.secrets
    ]
    return {
        "file": str(file),
        "account_id": found.account_id,
        "region": found.region,
        "prefix": found.prefix,
        "exported_at": found.exported_at,
        "secrets": secrets,
        "left_out": left_out,
    }


def _print(file: Path, found: Export, left_out: list[LeftOut], size: str) -> None:
    rows: list[tuple[object, ...]] = [
        (secret.name, version.version_id, tuple(sorted(version.labels)), version.created_at)
        for secret in found.secrets
        for version in secret.versions
    ]
    rows += [(secret.name, None, "without a value", None) for secret in found.secrets if not secret.versions]
    print_table("Exported", ["secret", "version", "labels", "made"], rows)
    for each in left_out:
        say(
            f"left out: version {each.version_id} of {each.name} ({', '.join(sorted(each.labels))}), since {each.reason}"
        )
    say(f"from  account {found.account_id}, {found.region}, {found.prefix}/")
    say(f"into  {file} ({size})")
    say(f"next:  email-gateway secrets drill {file}")
