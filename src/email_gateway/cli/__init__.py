"""The command line: each command in a module of its own, imported only when it is the one that runs."""

import importlib
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from email_gateway import __version__
from email_gateway.cli.exits import reporting
from email_gateway.private_memory import keep_memory_private

# In the order of the help: where each is, and its line in the list. The list is printed without importing
# them, which would take a second; a test compares the lines with what the commands say themselves.
COMMANDS = {
    "up": ("email_gateway.cli.up", "Run everything: PostgreSQL, the API, a worker, the dashboard and an inbox that keeps what is sent."),
    "api": ("email_gateway.cli.api", "Accept mail over HTTP and show the dashboard. Any number of these share one database."),
    "worker": ("email_gateway.cli.worker", "Deliver mail. Any number of workers, on any number of machines, share one database."),
    "migrate": ("email_gateway.cli.migrate", "Apply the migrations that the database lacks, all or none, and print their names."),
    "send": ("email_gateway.cli.send", "Send a mail through the API and print its id."),
    "status": ("email_gateway.cli.status", "Show the deliveries of each tenant by state, what waits and for how long, and whether mail is accepted."),
    "queue": ("email_gateway.cli.queue", "See what waits and what is held; hold, release, try now."),
    "dlq": ("email_gateway.cli.dlq", "Look at dead letters, and retry or discard them."),
    "webhooks": ("email_gateway.cli.webhooks", "Look at webhooks and what was sent to them; send again, test."),
    "trace": ("email_gateway.cli.trace", "Tell one mail's whole story, by its id."),
    "doctor": ("email_gateway.cli.doctor", "Look at AWS, the secrets, PostgreSQL, Redis and the smarthost, and name the next command for what is wrong."),
    "login": ("email_gateway.cli.login", "Print a link that opens the dashboard once, within ten minutes, in a browser on the gateway's machine."),
    "domains": ("email_gateway.cli.domains", "Add the domains that tenants send from, verify them in the DNS, and give them new keys."),
    "tenants": ("email_gateway.cli.tenants", "Make, suspend and list tenants and their API keys."),
    "limits": ("email_gateway.cli.limits", "Look at what a tenant may send and has sent, and change its limits."),
    "suppressions": ("email_gateway.cli.suppressions", "Look at the addresses that a tenant sends no mail to, and change them."),
    "keys": ("email_gateway.cli.keys", "Look at the keys that mail is sealed with, and change them."),
    "secrets": ("email_gateway.cli.secrets", "Make, check, change and audit the gateway's secrets in AWS Secrets Manager."),
    "aws": ("email_gateway.cli.aws", "Prepare what runs in AWS."),
}  # fmt: skip


class Commands(TyperGroup):
    """Knows each command by its line, and loads the one that runs."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    # Typer brings its own copy of click, whose classes have no public name.
    def get_command(self, ctx: object, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if command and name else command, rest


def load_command(name: str) -> Any:
    """Import a command's module and return the command."""
    command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # tracebacks show values
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"email-gateway {__version__}")
        raise typer.Exit


@app.callback(epilog="Start with `email-gateway up`: it runs everything and prints a curl line.")
def describe(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_show_version, is_eager=True),
) -> None:
    """A gateway for transactional mail that carries personal data."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with a code of `exits`."""
    keep_memory_private()
    with reporting():
        app(arguments, prog_name="email-gateway")
