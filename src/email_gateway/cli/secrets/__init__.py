"""`email-gateway secrets`: what an operator does about the gateway's secrets in AWS; never a value."""

import typer

from email_gateway.cli.secrets import (
    audit,
    changes,
    cost,
    drill,
    export,
    fleet,
    init,
    restore,
    show_rotation,
    verify,
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make, check, change and audit the gateway's secrets in AWS Secrets Manager.",
)
for part in (init, verify, changes, fleet, export, restore, drill, cost, audit, show_rotation):
    app.registered_commands += part.app.registered_commands


@app.callback(epilog="The whole of it, with what each command prints: docs/secrets.md")
def describe() -> None:
    """Make, check, change and audit the gateway's secrets in AWS Secrets Manager.

    They use the AWS credentials of this shell, `AWS_REGION` and `SECRETS_PREFIX`. No command prints a value.
    """
