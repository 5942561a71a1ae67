"""`email-gateway up`: everything on this machine, and what to do with it."""

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.table import Table

from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import make_console, print_json, say
from email_gateway.embedded import default_home
from email_gateway.up import Running, Wishes, run_up
from email_gateway.up.emulator import fresh_home, shell_line

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

PANEL_WIDTH = 78
EXAMPLE = (
    '{"from": "Billing <billing@example.com>", "to": "ana@example.net", "subject": "Your invoice", '
    '"text": "Hello Ana, this is your invoice.", "recipient": {"tax_id": "529.982.247-25"}}'
)


@app.command(
    epilog=examples(
        "email-gateway up", "email-gateway up --home ./gateway --port 0 --json", "email-gateway up --aws-emulator"
    )
)
def up(
    home: HomeDir = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The port of the API; 0 takes a free one. (API_PORT, 8025)"),
    ] = None,
    aws_emulator: Annotated[
        bool,
        typer.Option(
            "--aws-emulator",
            help="Keep the secrets in an AWS Secrets Manager that runs beside the gateway, in memory, and begin anew.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run everything: PostgreSQL, the API, a worker, the dashboard and an inbox that keeps what is sent.

    The data and the credentials stay in the home directory. Ctrl-C stops it in order, a second
    Ctrl-C at once. With DATABASE_URL set, that database is used; with TRANSPORT=smtp mail leaves.

    With --aws-emulator the same code runs as it does in AWS: the secrets are made as `secrets init` makes
    them, fetched, cached and rotated. It prints a command that shows a whole rotation, step by step. The
    emulator forgets everything when it ends: the data goes with it, and its home is a temporary directory
    unless you name one.
    """
    with contextlib.ExitStack() as stack:
        if home is None:
            home = stack.enter_context(fresh_home()) if aws_emulator else default_home()
        wishes = Wishes(home, port, wants_link=not as_json, emulates_aws=aws_emulator)
        run_up(wishes, announce_to_machine if as_json else announce)


def announce_to_machine(running: Running) -> None:
    """Print what scripts need, as one line."""
    emulated = {"aws_endpoint_url": running.emulator_url} if running.emulator_url else {}
    print_json(
        {
            **emulated,
            "api_url": running.api_url,
            "dashboard_url": running.dashboard_url,
            "api_key": running.credentials.api_key,
            "admin_key": running.admin_key,
            "database_url": running.database_url,
            "home": str(running.home.path),
        }
    )


def announce(running: Running) -> None:
    """Print where everything is; what one copies stands on lines of its own, unbroken."""
    kept = running.home.credentials_file
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("API", running.api_url),
        ("Dashboard", running.dashboard_url),
        ("API key", str(running.credentials.api_key) if running.is_new_api_key else f"kept in {kept}"),
        ("Mail", _fate_of_mail(running.settings.transport)),
        ("AWS", f"emulated on {running.emulator_url}, in memory" if running.emulator_url else ""),
        ("Data", f"{running.home.path}{', readable until this ends' if running.emulator_url else ''}"),
    ):
        if value:
            facts.add_row(name, value)
    console = make_console()
    title = f"Email Gateway runs (started in {running.took.total_seconds():.1f} s)"
    console.print(Panel(facts, title=title, title_align="left", width=_width(console.width, facts)))
    if running.is_new_api_key:
        beside = "" if running.emulator_url else ", with the admin key,"
        say(f"The API key is shown this once. It is kept{beside} in {kept}\n")
    say(f"Open the dashboard (this link works once, within 10 minutes):\n  {running.login_url}\n")
    say(f"Send a mail:\n  {curl_line(running)}\n")
    say(f"Or without curl:\n  {send_line(running)}\n")
    if running.emulator_url:
        say("Watch a whole rotation, in another terminal; Secrets and keys of the dashboard shows it too:")
        say(f"  {rotation_line(running)}\n")
        say("Let `email-gateway secrets` and `aws` see the emulator, in that terminal:")
        say(f"  {shell_line(running.emulator_url)}\n")
        say("The emulator has its secrets in memory: when it ends they are gone, and nobody can read the data again.")
    say("Ctrl-C stops everything.")


def curl_line(running: Running) -> str:
    """Return a line for any POSIX shell that sends a mail; after the first start it reads the key from its file."""
    if running.is_new_api_key:
        key = f"'Authorization: Bearer {running.credentials.api_key}'"
    else:
        file = shlex.quote(str(running.home.credentials_file))
        key = f'''"Authorization: Bearer $(sed -n 's/.*"api_key": "\\(.*\\)".*/\\1/p' {file})"'''
    return f"curl -sS {running.api_url}/emails -H {key} -H 'Content-Type: application/json' -d '{EXAMPLE}'"


def send_line(running: Running) -> str:
    """Return the command that sends a mail and follows it."""
    return _own_line(running, "send", "--to", "ana@example.net", "--wait")


def rotation_line(running: Running) -> str:
    """Return the command that shows a rotation on the emulator."""
    return _own_line(running, "secrets show-rotation")


def _own_line(running: Running, command: str, *options: str) -> str:
    program = sys.argv[0] if Path(sys.argv[0]).name == "email-gateway" else "email-gateway"
    where = [] if running.home.path == default_home() else ["--home", str(running.home.path)]
    return shlex.join([program, *command.split(), *where, *options])


def _fate_of_mail(transport: str) -> str:
    return "kept in the inbox of the dashboard, not sent" if transport == "inbox" else f"leaves by {transport}"


def _width(available: int, facts: Table) -> int:
    needed = make_console().measure(facts).maximum + 4
    return min(available, max(PANEL_WIDTH, needed))
