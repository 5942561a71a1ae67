"""`email-gateway api`: the HTTP interface and the dashboard, in one process or several on one port."""

import socket
from collections.abc import Mapping
from typing import Annotated

import typer

from email_gateway.app import run_api
from email_gateway.cli.options import HandedFd, examples
from email_gateway.cli.process import receive
from email_gateway.cli.running import run_until_stopped
from email_gateway.observe import configure_logging
from email_gateway.settings import Settings, load_settings
from email_gateway.up.listening import listen_each
from email_gateway.up.processes import keep_api_processes

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples("DATABASE_URL=postgresql://... email-gateway api --host 0.0.0.0 --processes 2"))
def api(
    host: Annotated[str | None, typer.Option(help="The address to listen on. (API_HOST, 127.0.0.1)")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="The port; 0 takes a free one. (API_PORT, 8025)")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes on this port. (API_PROCESSES, 1)")
    ] = None,
    handed_fd: HandedFd = None,
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Accept mail over HTTP and show the dashboard. Any number of these share one database.

    Run `email-gateway migrate` first. On SIGTERM it stops accepting connections, answers what has
    been asked and exits with 0.
    """
    chosen = {"API_HOST": host, "API_PORT": port, "API_PROCESSES": processes}
    settings = load_settings(handed={**receive(handed_fd), **_given(chosen)})
    configure_logging(settings.log_format, settings.log_level)
    if listen_fd is not None:
        serve(settings, socket.socket(fileno=listen_fd))
        return
    listeners = listen_each(settings.api_host, settings.api_port, settings.api_processes)
    if settings.api_processes == 1:
        serve(settings, listeners[0])
    else:
        keep_api_processes(settings, listeners)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve in this process until a signal asks to stop."""
    listener.setblocking(False)
    run_until_stopped(lambda stop: run_api(settings, [listener], stop))


def _given(chosen: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in chosen.items() if value is not None}
