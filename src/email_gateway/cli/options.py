"""Options that several commands share, and the form of their examples."""

from pathlib import Path
from typing import Annotated

import typer

HomeDir = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The home of an `email-gateway up`. (Default: /var/lib/email-gateway for root,"
        " ~/.local/share/email-gateway for others)",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
# How a parent hands its settings on; see `process.receive`.
HandedFd = Annotated[int | None, typer.Option("--handed-fd", hidden=True)]


def examples(*lines: str) -> str:
    """Return the end of a command's help: each example on a line of its own, ready to be copied."""
    title = "Examples:" if len(lines) > 1 else "Example:"
    return "\n".join((title, "```sh", *lines, "```"))
