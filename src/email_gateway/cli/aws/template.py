"""`email-gateway aws template`: a template of this release, on standard output or in a file."""

from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.operator.template_files import get_template, list_templates

app = typer.Typer()


@app.command(
    epilog=examples(
        "email-gateway aws template",
        "email-gateway aws template gateway.yaml --output gateway.yaml",
        "email-gateway aws template kubernetes.yaml | kubectl apply --dry-run=server -f -",
    )
)
def template(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The template; without it they are listed.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it. (Standard output)")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a template: CloudFormation, an ECS task definition, Kubernetes manifests or systemd units.

    They are complete as they are: what differs between installations is a parameter, or stands in one place that
    says so. `--json` is for the list.
    """
    if name is None:
        templates = list_templates()
        if as_json:
            print_json([{"name": each, "what": what} for each, what in templates.items()])
        else:
            print_table("Templates", ["name", "what"], list(templates.items()))
        return
    text = get_template(name)
    if output is None:
        say(text.rstrip("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {output}: {error.strerror}", "choose another place with --output") from None
    say(str(output))
