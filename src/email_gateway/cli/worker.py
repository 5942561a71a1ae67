"""`email-gateway worker`: one process that delivers mail."""

import typer

from email_gateway.cli.options import HandedFd, examples
from email_gateway.cli.process import receive
from email_gateway.cli.running import run_until_stopped
from email_gateway.observe import configure_logging
from email_gateway.settings import load_settings
from email_gateway.worker import run_worker

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(epilog=examples("DATABASE_URL=postgresql://... TRANSPORT=smtp SMTP_URL=smtp://... email-gateway worker"))
def worker(handed_fd: HandedFd = None) -> None:
    """Deliver mail. Any number of workers, on any number of machines, share one database.

    On SIGTERM it claims nothing more, finishes the attempts under way and exits with 0. What a
    killed worker held is taken up by the others within 30 seconds.
    """
    settings = load_settings(handed=receive(handed_fd))
    configure_logging(settings.log_format, settings.log_level)
    run_until_stopped(lambda stop: run_worker(settings, stop))
