"""`email-gateway migrate`: bring the database to this release's schema."""

import asyncio
from typing import IO, Annotated

import typer

from email_gateway.cli.connecting import get_database, load_without_keys
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.foundation import DatabaseSource, find_make_password
from email_gateway.secrets.validation import read_database_url, strip_secret
from email_gateway.store.failures import naming
from email_gateway.store.migrations import migrate as apply_missing

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

UrlFile = Annotated[
    typer.FileText | None,
    typer.Option(
        "--url-file",
        metavar="FILE",
        help="Holds the URL, or the JSON that RDS keeps, of the login that owns the schema; - is standard input.",
        show_default=False,
    ),
]


@app.command(
    epilog=examples(
        "email-gateway migrate --url-file owner.url",
        "DATABASE_URL=postgresql://... email-gateway migrate",
    )
)
def migrate(home: HomeDir = None, url_file: UrlFile = None, as_json: AsJson = False) -> None:
    """Apply the migrations that the database lacks, all or none, and print their names.

    Log in as a member of email_gateway_owner: what the processes use may not change the schema
    (docs/settings.md, under PostgreSQL). Safe to run from several places at once: one waits for the
    other. Older processes go on running against the newer schema.
    """
    applied = asyncio.run(_migrate(home, url_file))
    if as_json:
        print_json({"applied": applied})
    else:
        say("\n".join(f"applied {name}" for name in applied) or "nothing to apply: the database is up to date")


async def _migrate(home: HomeDir, url_file: IO[str] | None) -> list[str]:
    if url_file is None:
        source = await get_database(home, for_migrations=True)
    else:
        settings = load_without_keys()
        source = DatabaseSource(_read_url(url_file), "--url-file", find_make_password(settings))
    with naming(source.name):
        return await apply_missing(source.url, source.make_password)


def _read_url(file: IO[str]) -> str:
    """Return the URL in the file; in a file, since others can read the environment and the command line."""
    try:
        return read_database_url(strip_secret(file.read()))
    except ValueError as wrong:
        raise CommandFailed(f"what --url-file holds {wrong}") from None
