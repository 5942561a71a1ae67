"""`email-gateway migrate`: bring the database to this release's schema."""

import asyncio

import typer

from email_gateway.cli.connecting import find_database_url
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.store.migrations import migrate as apply_missing

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples("DATABASE_URL=postgresql://... email-gateway migrate"))
def migrate(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Apply the migrations that the database lacks, all or none, and print their names.

    Safe to run from several places at once: one waits for the other. Older processes go on
    running against the newer schema.
    """
    asyncio.run(_migrate(home, as_json))


async def _migrate(home: HomeDir, as_json: bool) -> None:
    applied = await apply_missing(await find_database_url(home))
    if as_json:
        print_json({"applied": applied})
    else:
        say("\n".join(f"applied {name}" for name in applied) or "nothing to apply: the database is up to date")
