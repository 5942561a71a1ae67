"""`email-gateway login`: a one-time link to the dashboard."""

import asyncio

import typer

from email_gateway.cli.connecting import find_api_url, name_of_user, open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.store.sessions import make_login_link

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples('xdg-open "$(email-gateway login)"'))
def login(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Print a link that opens the dashboard once, within ten minutes, in a browser on the gateway's machine.

    From elsewhere, log in with the admin key.
    """
    token = asyncio.run(_make_link(home))
    # In the fragment, which browsers do not send: it reaches no log and no proxy.
    link = f"{find_api_url(home).removesuffix('/v1')}/dashboard/login#token={token}"
    if as_json:
        print_json({"login_url": link})
    else:
        say(link)


async def _make_link(home: HomeDir) -> str:
    async with open_database(home) as db:
        return await make_login_link(db, name_of_user())
