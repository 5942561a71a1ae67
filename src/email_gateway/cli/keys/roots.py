"""`email-gateway keys verify | retire | rescue`: what an operator does about root keys."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from email_gateway.cli.connecting import name_of_user, open_secrets, open_vault
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import make_console, print_json, print_table, say
from email_gateway.secrets.validation import strip_secret
from email_gateway.settings import parse_key
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database
from email_gateway.store.keys import count_live_keys, list_roots
from email_gateway.vault import adoption, retirement
from email_gateway.vault.adoption import Adoption
from email_gateway.vault.retirement import RETIRING_LASTS, Retirement
from email_gateway.vault.roots import derive_root

app = typer.Typer()

SecretFile = Annotated[Path, typer.Option(exists=True, dir_okay=False, readable=True, metavar="FILE")]


@app.command(epilog=examples("email-gateway keys verify", "email-gateway keys verify --json"))
def verify(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Open every data key under the active root key, and name the first that does not open.

    Nothing is changed but the date of the check. Safe at any time; it takes a second for some
    ten thousand tenants.
    """
    done = asyncio.run(_verify(home, as_json))
    if as_json:
        print_json({"root_id": done.root_id, "data_keys": done.data_keys})
    else:
        say(f"all {done.data_keys} data keys open under root key {done.root_id.hex()}")


@app.command(epilog=examples("email-gateway keys retire", "email-gateway keys retire --after-days 30"))
def retire(
    after_days: Annotated[int, typer.Option(min=0, help="How long a root has been retiring.")] = RETIRING_LASTS.days,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Let go of root keys that another has followed: their wraps are deleted, nothing else.

    First every data key is opened under the active root key, and every process seen in the last
    ten minutes must hold that one. Run it daily: what is too young stays, with the reason. A backup
    from before still opens as long as Secrets Manager has the old versions.
    """
    done = asyncio.run(_retire(timedelta(days=after_days), home, as_json))
    if as_json:
        print_json({"roots": [{"root_id": o.root_id, "wraps": o.wraps, "kept_because": o.kept_because} for o in done]})
    elif not done:
        say("no root key is retiring")
    else:
        rows = [(one.root_id.hex(), one.kept_because or "retired", one.wraps) for one in done]
        print_table("Retiring root keys", ["root", "what became of it", "wraps deleted"], rows)


@app.command(epilog=examples("email-gateway keys rescue --key-file old-key.txt --salt-file old-salt.txt"))
def rescue(key_file: SecretFile, salt_file: SecretFile, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Bring a database back whose root key Secrets Manager has lost, with the old key and salt from your safe.

    For a start that was refused with "not the active root of this database": the two files hold the
    values that the refused root key was derived from. Every data key is wrapped anew under what
    Secrets Manager holds now; nothing is deleted. Delete the files afterwards (`shred -u`).
    """
    done = asyncio.run(_rescue(key_file, salt_file, home, as_json))
    if as_json:
        print_json({"root_id": done.root_id, "data_keys": done.data_keys})
    else:
        say(f"root key {done.root_id.hex()} is active and opens all {done.data_keys} data keys: start the gateway")


async def _verify(home: Path | None, as_json: bool) -> Adoption:
    async with open_vault(home) as (db, keyring):
        active = next(root for root in await list_roots(db) if root.state == "active")
        with showing("opening data keys", await count_live_keys(db), quiet=as_json) as progress:
            return await adoption.verify(db, keyring.roots, active.root_id, progress)


async def _retire(after: timedelta, home: Path | None, as_json: bool) -> list[Retirement]:
    async with open_vault(home) as (db, keyring):
        with showing("opening data keys", await count_live_keys(db), quiet=as_json) as progress:
            return await retirement.retire(db, keyring.roots, actor=name_of_user(), after=after, progress=progress)


async def _rescue(key_file: Path, salt_file: Path, home: Path | None, as_json: bool) -> Adoption:
    old = derive_root(_read(key_file), _read(salt_file))
    async with open_secrets(home) as (db, source):
        with showing("wrapping data keys", await count_live_keys(db), quiet=as_json) as progress:
            done = await adoption.rescue(db, source, old, progress)
        await _note(db, done)
        return done


async def _note(db: Database, done: Adoption) -> None:
    await add_audit(db, actor=name_of_user(), action="root.rescued", subject=done.root_id.hex())


def _read(file: Path) -> str:
    try:
        return parse_key(strip_secret(file.read_text(encoding="utf-8")))
    except (ValueError, OSError) as wrong:
        detail = str(wrong) if not isinstance(wrong, UnicodeDecodeError | OSError) else "must be readable UTF-8 text"
        raise CommandFailed(f"{file} {detail}", "write the value alone into the file, as it was stored") from None


@contextlib.contextmanager
def showing(what: str, total: int, *, quiet: bool) -> Iterator[adoption.Progress]:
    """Show a bar on a terminal while something counts up to `total`; machines get none."""
    console = make_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
