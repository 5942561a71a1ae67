"""`email-gateway secrets restore`: an export back into Secrets Manager, wherever the shell points."""

from typing import Annotated

import typer

from email_gateway.cli.exits import FAILED
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.cli.secrets.account import open_account, showing
from email_gateway.cli.secrets.age import ExportFile, IdentityFile, PassphraseFile, open_export
from email_gateway.cli.secrets.steps import as_plain, make_all, print_steps
from email_gateway.operator.restoring import can_be_made, plan, prove

app = typer.Typer()

TITLE = "Secrets as they were exported"


@app.command(
    epilog=examples(
        "email-gateway secrets restore secrets.age --identity-file key.txt --dry-run",
        "email-gateway secrets restore secrets.age --passphrase-file /dev/fd/3 3< <(pass show gateway-export)",
    )
)
def restore(
    file: ExportFile,
    identity_file: IdentityFile = None,
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the KMS key and the secrets of an export, each version under its own id and with its labels.

    Into the account and the region of this shell, under its `SECRETS_PREFIX`, whatever those of the export were.
    The database finds its root keys by these ids. What is there already is left alone, and it can be run
    again after it was killed. Where another value stands, nothing at all is done. The exit code is 1 then.
    """
    exported = open_export(file, identity_file, passphrase_file)
    account = open_account()
    with showing("looking", quiet=as_json):
        steps = plan(account, exported)
    is_done = can_be_made(steps) and not dry_run
    if is_done:
        make_all(TITLE, steps, quiet=as_json)
        prove(account, exported)
    if as_json:
        told = {"region": account.region, "prefix": account.prefix, "dry_run": dry_run}
        print_json({**told, "steps": as_plain(steps, is_done=is_done)})
    else:
        print_steps(TITLE, steps, is_done=is_done)
        say(_name_next(is_done=is_done, is_refused=not can_be_made(steps)))
    if not can_be_made(steps):
        raise typer.Exit(FAILED)


def _name_next(*, is_done: bool, is_refused: bool) -> str:
    if is_done:
        return "next:  `email-gateway secrets init` with --administrator and --rotation for the policies, then `verify`"
    return "nothing was changed" if is_refused else "nothing was changed: this is the plan"
