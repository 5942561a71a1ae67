"""`email-gateway keys`: the state of the vault, and the changes of its keys; never a key itself."""

import typer

from email_gateway.cli.keys import index, renew, reseal, roots, status

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at the keys that mail is sealed with, and change them.",
)
for part in (status, roots, renew, reseal):
    app.registered_commands += part.app.registered_commands
app.add_typer(index.app, name="index")


@app.callback()
def describe() -> None:
    """Look at the keys that mail is sealed with, and change them."""
