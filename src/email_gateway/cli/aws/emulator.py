"""`email-gateway aws emulator`: the process that `up --aws-emulator` starts beside the others."""

import socket
from typing import Annotated

import typer

from email_gateway.cli.options import HandedFd
from email_gateway.cli.process import receive
from email_gateway.up.emulator import serve_emulator

app = typer.Typer()


@app.command(hidden=True)
def emulator(listen_fd: Annotated[int, typer.Option(hidden=True)], handed_fd: HandedFd = None) -> None:
    """Be the emulated AWS of `email-gateway up --aws-emulator`."""
    receive(handed_fd)
    serve_emulator(socket.socket(fileno=listen_fd))
