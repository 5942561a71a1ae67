"""Options that belong together reach a command as one object."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from email_gateway.cli.taking import taking


@dataclass(frozen=True)
class Colour:
    """Two options."""

    name: Annotated[str, typer.Option("--colour", help="Which.")] = "red"
    is_dark: Annotated[bool, typer.Option("--dark")] = False


app = typer.Typer()


@app.command()
@taking(Colour)
def paint(colour: Colour, what: str, coats: int = 1) -> None:
    """Paint something."""
    typer.echo(f"{what} {colour} {coats}")


def test_the_fields_are_options_and_arrive_as_one_object() -> None:
    told = CliRunner().invoke(app, ["door", "--colour", "blue", "--dark", "--coats", "2"]).output
    assert told == f"door {Colour('blue', is_dark=True)} 2\n"
    assert CliRunner().invoke(app, ["door"]).output == f"door {Colour()} 1\n"


def test_the_help_is_the_commands_own() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    assert "Paint something." in told
    assert "--colour" in told
    assert "--coats" in told
