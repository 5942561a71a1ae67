"""`email-gateway aws`: what an operator takes to AWS, from the installed release and without a clone of it."""

import typer

from email_gateway.cli.aws import emulator, policy, rotation_zip, template

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Prepare what runs in AWS.",
)
for part in (template, policy, rotation_zip, emulator):
    app.registered_commands += part.app.registered_commands


@app.callback(epilog="What each template makes, and what it costs: docs/infrastructure.md")
def describe() -> None:
    """Prepare what runs in AWS."""
