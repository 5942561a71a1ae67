"""The command line: each command in a module of its own, imported only when it is the one that runs."""

import importlib
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from email_gateway import __version__
from email_gateway.cli.exits import reporting
from email_gateway.cli.process import keep_memory_private

# In the order of the help. The api's and the worker's processes import nothing of the others.
COMMANDS = {
    "up": "email_gateway.cli.up",
    "api": "email_gateway.cli.api",
    "worker": "email_gateway.cli.worker",
    "migrate": "email_gateway.cli.migrate",
    "send": "email_gateway.cli.send",
    "status": "email_gateway.cli.status",
    "login": "email_gateway.cli.login",
    "tenants": "email_gateway.cli.tenants",
    "keys": "email_gateway.cli.keys",
    "aws": "email_gateway.cli.aws",
}


class Commands(TyperGroup):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    # Typer brings its own copy of click, whose classes have no public name.
    def get_command(self, ctx: object, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
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
