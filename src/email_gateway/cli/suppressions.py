"""`email-gateway suppressions`: the addresses that a tenant sends no mail to; whole lists as CSV."""

import contextlib
import csv
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO
from uuid import UUID

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from email_gateway.cli.choosing import find_tenant_id
from email_gateway.cli.connecting import name_of_user, open_vault
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import make_console, print_json, print_table, say
from email_gateway.errors import NotFound
from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database
from email_gateway.store.pages import Page
from email_gateway.store.suppressions import Reason
from email_gateway.suppressions import MAX_NOTE_CHARACTERS, Entry, Suppression, Suppressions

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at the addresses that a tenant sends no mail to, and change them.",
)

BATCH = 500
COLUMNS = ("email", "reason", "source_id", "note", "created_at", "expires_at")
MOST_SHOWN_FAULTS = 20

Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Of this tenant, by name or id.")]
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The address alone, in any case.")]
WhyReason = Annotated[Reason, typer.Option("--reason", help="Why it gets no mail.")]


@app.command(epilog=examples("email-gateway suppressions show ana@example.net --tenant billing"))
def show(email: Email, tenant: Tenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Tell whether an address is suppressed, and why. Leaves an audit row. Exit code 1 when it is not."""
    found = uvloop.run(_show(tenant, check_email(email), home))
    if as_json:
        print_json(asdict(found))
    else:
        print_table("Suppressed", list(COLUMNS), [as_row(found)])


@app.command(
    epilog=examples(
        "email-gateway suppressions add ana@example.net --tenant billing",
        "email-gateway suppressions add ana@example.net --tenant billing --reason unsubscribe --days 90",
    )
)
def add(
    email: Email,
    tenant: Tenant,
    reason: WhyReason = Reason.MANUAL,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Where it came from; sealed.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=36_500, help="It ends after so many days.")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Suppress an address: mail to it is accepted and not sent, what waits included."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    entry = Entry(check_email(email), reason, note=check_note(note), expires_at=expires_at)
    suppression_id, is_new = uvloop.run(_add(tenant, entry, home))
    if as_json:
        print_json({"id": suppression_id, "is_new": is_new})
    else:
        say(f"{'suppressed' if is_new else 'was suppressed already'} ({suppression_id})")


@app.command(epilog=examples("email-gateway suppressions remove ana@example.net --tenant billing"))
def remove(email: Email, tenant: Tenant, home: HomeDir = None, as_json: AsJson = False) -> None:
    """End an address's suppression. What was suppressed until now stays so: send it again."""
    suppression_id = uvloop.run(_remove(tenant, check_email(email), home))
    if as_json:
        print_json({"id": suppression_id, "removed": True})
    else:
        say(f"removed ({suppression_id})")


@app.command(
    "import",
    epilog=examples(
        "email-gateway suppressions import bounces.csv --tenant billing --reason bounce",
        "email-gateway suppressions export --tenant old | email-gateway suppressions import - --tenant billing",
    ),
)
def import_list(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a column `email`; - reads standard input.")],
    tenant: Tenant,
    reason: WhyReason = Reason.MANUAL,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Suppress every address of a CSV file. Running it again, or after it was stopped, adds what is missing.

    The columns `reason`, `source_id`, `note` and `expires_at` count where they are there; others are not read.
    All lines are checked before the first is written: one that is wrong stops the import, by its number.
    """
    entries = read_csv(file, reason)
    added = uvloop.run(_import(tenant, entries, home, as_json=as_json))
    if as_json:
        print_json({"read": len(entries), "added": added})
    else:
        say(f"{len(entries)} read, {added} added, {len(entries) - added} suppressed already or given twice")


@app.command(
    epilog=examples(
        "email-gateway suppressions export --tenant billing > suppressions.csv",
        "email-gateway suppressions export --tenant billing --reason bounce --json",
    )
)
def export(
    tenant: Tenant,
    reason: Annotated[list[Reason] | None, typer.Option("--reason", help="Of this reason; again for more.")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Write the list as CSV to standard output, the newest first; with --json a line for each. Leaves an audit row.

    It holds addresses in clear: keep it where nobody else reads it.
    """
    uvloop.run(_export(tenant, reason or list(Reason), home, as_json=as_json))


def check_email(text: str) -> str:
    """Return an address; raises CommandFailed for what is none, and does not repeat it."""
    try:
        canonical_address(text)
    except InvalidValue as error:
        raise CommandFailed(str(error)) from None
    return text


def check_note(text: str | None) -> str | None:
    """Return a note, or None for an empty one; raises CommandFailed for one that is no short line."""
    if text and (len(text) > MAX_NOTE_CHARACTERS or UNSAFE_IN_NAMES.search(text)):
        raise CommandFailed(f"a note is one line of at most {MAX_NOTE_CHARACTERS} characters")
    return text or None


def read_csv(file: Path, reason: Reason) -> list[Entry]:
    """Read and check every line of a file; raises CommandFailed that names the lines which are wrong."""
    entries, faults = [], []
    with _reading(file) as lines:
        reader = csv.DictReader(lines)
        try:
            if "email" not in (reader.fieldnames or ()):
                raise CommandFailed("the first line names no column `email`", "write the names of the columns first")
            for row in reader:
                try:
                    entries.append(_entry(row, reason))
                except (ValueError, CommandFailed) as error:
                    faults.append(f"line {reader.line_num}: {_fault_of(error)}")
        except (csv.Error, UnicodeDecodeError):
            raise CommandFailed(f"line {reader.line_num + 1} is no CSV in UTF-8") from None
    if faults:
        shown = "\n  ".join(faults[:MOST_SHOWN_FAULTS])
        raise CommandFailed(
            f"{len(faults)} lines are wrong, and nothing was written:\n  {shown}", "correct them, then run it again"
        )
    return entries


def as_row(one: Suppression) -> tuple[str, ...]:
    """Return a suppression as a line of CSV."""
    moments = [moment.isoformat() if moment else "" for moment in (one.created_at, one.expires_at)]
    return (one.address, one.reason.value, str(one.source_id or ""), one.note or "", *moments)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        opened = file.open(encoding="utf-8-sig", newline="")  # spreadsheets write a mark before the first name
    except OSError as error:
        raise CommandFailed(f"the file cannot be read: {error.strerror}") from None
    with opened:
        yield opened


def _entry(row: dict[str, str], reason: Reason) -> Entry:
    expires_at = datetime.fromisoformat(row["expires_at"]) if row.get("expires_at") else None
    if expires_at is not None and expires_at.tzinfo is None:
        raise CommandFailed("expires_at has no offset: write it as 2027-01-31T00:00:00Z")
    return Entry(
        check_email((row["email"] or "").strip()),
        Reason(row["reason"]) if row.get("reason") else reason,
        UUID(row["source_id"]) if row.get("source_id") else None,
        check_note(row.get("note")),
        expires_at,
    )


def _fault_of(error: Exception) -> str:
    # What a library says of a value quotes it.
    if isinstance(error, CommandFailed):
        return str(error)
    return f"use {', '.join(Reason)} as reason, a message's id as source_id, and ISO 8601 in expires_at"


@contextlib.asynccontextmanager
async def _open(tenant: str, home: Path | None) -> AsyncIterator[tuple[Database, Suppressions, UUID]]:
    async with open_vault(home) as (db, keyring):
        yield db, Suppressions(db, keyring), await find_tenant_id(db, tenant)


async def _audit(db: Database, action: str, tenant_id: UUID, subject: str | None = None) -> None:
    await add_audit(db, actor=name_of_user(), action=f"suppression.{action}", tenant_id=tenant_id, subject=subject)


async def _show(tenant: str, email: str, home: Path | None) -> Suppression:
    async with _open(tenant, home) as (db, suppressions, tenant_id):
        try:
            found = await suppressions.find(tenant_id, email)
        except NotFound:
            raise CommandFailed("this address is not suppressed") from None
        await _audit(db, "shown", tenant_id, str(found.suppression_id))
        return found


async def _add(tenant: str, entry: Entry, home: Path | None) -> tuple[UUID, bool]:
    async with _open(tenant, home) as (db, suppressions, tenant_id):
        ((suppression_id, is_new),) = await suppressions.add(tenant_id, [entry])
        await _audit(db, "added", tenant_id, str(suppression_id))
        return suppression_id, is_new


async def _remove(tenant: str, email: str, home: Path | None) -> UUID:
    async with _open(tenant, home) as (db, suppressions, tenant_id):
        (found,) = await suppressions.find_ids(tenant_id, [email])
        if found is None or not await suppressions.remove(tenant_id, [found]):
            raise CommandFailed("this address is not suppressed")
        await _audit(db, "removed", tenant_id, str(found))
        return found


async def _import(tenant: str, entries: list[Entry], home: Path | None, *, as_json: bool) -> int:
    added = 0
    async with _open(tenant, home) as (db, suppressions, tenant_id):
        await _audit(db, "imported", tenant_id, f"{len(entries)} lines")
        with _bar(as_json=as_json) as progress:
            task = progress.add_task("suppressions", total=len(entries))
            for batch in _batches(entries):
                ids = dict(await suppressions.add(tenant_id, batch))  # of an address given twice, one
                added += sum(ids.values())
                progress.advance(task, len(batch))
    return added


async def _export(tenant: str, reasons: list[Reason], home: Path | None, *, as_json: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    async with _open(tenant, home) as (db, suppressions, tenant_id):
        await _audit(db, "exported", tenant_id)
        if not as_json:
            writer.writerow(COLUMNS)
        page, has_more = Page(BATCH), True
        while has_more:
            found, has_more = await suppressions.list_page(tenant_id, page, reasons)
            for one in found:
                print_json(asdict(one)) if as_json else writer.writerow(as_row(one))
            page = Page(BATCH, after=found[-1].suppression_id) if found else page


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    left = iter(entries)
    while batch := list(islice(left, BATCH)):
        yield batch


def _bar(*, as_json: bool) -> Progress:
    is_shown = not as_json and sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=make_console(sys.stderr), disable=not is_shown)
