"""`email-gateway secrets drill`: does an export open the database of today."""

import asyncio
from pathlib import Path

import typer

from email_gateway.cli.connecting import open_database
from email_gateway.cli.exits import FAILED
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.cli.secrets.account import showing
from email_gateway.cli.secrets.age import ExportFile, IdentityFile, PassphraseFile, open_export
from email_gateway.operator.drilling import Drilled, DrilledRoot
from email_gateway.operator.drilling import drill as drill_database
from email_gateway.operator.exported import Export

app = typer.Typer()

MOST_NAMED = 20  # of what did not open; JSON has all


@app.command(epilog=examples("email-gateway secrets drill secrets.age --identity-file key.txt"))
def drill(
    file: ExportFile,
    identity_file: IdentityFile = None,
    passphrase_file: PassphraseFile = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Prove that an export opens the database as it is now, without touching it.

    It makes the root keys of the export's keys and salts, opens every data key of the database with them and a
    sample of sealed values with those, in a transaction that can write nothing; Secrets Manager is not needed
    for it. The exit code is 1 when anything did not open. Do it by the calendar, and on a restored database.
    """
    exported = open_export(file, identity_file, passphrase_file)
    done = asyncio.run(_drill(exported, home, as_json))
    if as_json:
        exported_as = {"exported_at": exported.exported_at, "account_id": exported.account_id,
                       "region": exported.region, "prefix": exported.prefix}  # fmt: skip
        print_json({**exported_as, "is_good": done.is_good, "drilled": done})
    else:
        _print(exported, done)
    if not done.is_good:
        raise typer.Exit(FAILED)


async def _drill(exported: Export, home: Path | None, as_json: bool) -> Drilled:
    with showing("opening", quiet=as_json) as show:
        async with open_database(home) as db:
            return await drill_database(db, exported, show)


def _print(exported: Export, done: Drilled) -> None:
    say(f"export of account {exported.account_id}, {exported.region}, {exported.prefix}/,"
        f" {exported.exported_at:%Y-%m-%d %H:%M:%S} UTC")  # fmt: skip
    print_table(
        "Root keys of the database",
        ["root", "state", "encryption-key version", "encryption-salt version", "export", "data keys it opens"],
        [_row(root) for root in done.roots],
    )
    print_table(
        "What the export opens",
        ["", "there", "opened"],
        [
            ("data keys, all", done.data_keys, done.opened_data_keys),
            ("values, a sample", done.values, done.opened_values),
        ],
    )
    for each in done.unopened[:MOST_NAMED]:
        say(f"does not open: {each.what} {each.name}: {each.reason}")
    if len(done.unopened) > MOST_NAMED:
        say(f"and {len(done.unopened) - MOST_NAMED} more: --json has them all")
    if done.is_good:
        say("the export opens this database")
    else:
        say("next:  take another export with `email-gateway secrets export`, and keep this one: it may open a backup")


def _row(root: DrilledRoot) -> tuple[object, ...]:
    word = {None: "lacks it", True: "opens it", False: "does not fit"}[root.is_proven]
    return (root.root_id.hex(), root.state, root.key_version_id, root.salt_version_id, word, root.data_keys)
