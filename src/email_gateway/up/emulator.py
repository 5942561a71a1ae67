"""AWS beside the gateway, to try its way of keeping secrets: moto's server, in memory, in a process of `up`'s.

Whatever it holds is gone with it, and so is what the gateway sealed meanwhile. So each run begins with a
home that holds nothing yet.
"""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from email_gateway.errors import ConfigurationError, OperatorError
from email_gateway.settings import Settings, change_environ
from email_gateway.up.children import Child, Role
from email_gateway.up.home import ROOT
from email_gateway.up.listening import listen, reach

LOOPBACK = "127.0.0.1"
REQUIREMENT = "moto[server,secretsmanager,kms]"  # as the extra `emulator` has it
MODULES = ("moto", "flask", "flask_cors")
# An account that exists nowhere else: no request of this process can reach a real one.
ACCOUNT = {
    "USE_SECRETS_MANAGER": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "emulator",
    "AWS_SECRET_ACCESS_KEY": "emulator",
}
# What could name another account, or stand between us and the loopback address.
OTHERS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


class Emulator:
    """A running emulator; `url` is what AWS_ENDPOINT_URL is to this process and its children."""

    def __init__(self, child: Child, url: str) -> None:
        self.child = child
        self.url = url

    @classmethod
    def start(cls) -> Self:
        """Start the process and enter its account. Main thread only, as for every child.

        Connections wait until it serves, which takes a second or two. Raises ConfigurationError when moto is
        not installed.
        """
        require_installed()
        # Ours is closed at once: should the emulator die, connections are refused and do not hang.
        with listen(LOOPBACK, 0) as listener:
            arguments = ("aws", "emulator", "--listen-fd", str(listener.fileno()))
            child = Child(Role("aws-emulator", arguments, handed={}, sockets=(listener.fileno(),)))
            host, port = reach(listener)
            emulator = cls(child, f"http://{host}:{port}")
            enter_account(emulator.url)
            child.tend()
        return emulator

    def fill(self, settings: Settings) -> None:
        """Make the KMS key and the secrets, as `secrets init` does.

        Raises ConfigurationError where these settings would leave data behind that nobody can open.
        """
        if settings.is_deployed:
            raise ConfigurationError(
                f"--aws-emulator is for trying things out, and APP_ENV is {settings.app_env}: unset it"
            )
        if settings.database_url:
            raise ConfigurationError(
                "--aws-emulator loses its keys when it ends, and with them all that is stored: unset DATABASE_URL,"
                " so that the embedded server keeps the data"
            )
        # The AWS client takes 0.3 s to import: an `up` without the emulator does not pay for it.
        from email_gateway.operator.account import Account  # noqa: PLC0415
        from email_gateway.operator.making import Wanted, carry_out, plan  # noqa: PLC0415

        account = Account.open(settings)
        carry_out(plan(account, Wanted.of((), guards=None)), lambda _: None)

    def require_running(self) -> None:
        """Raise OperatorError when it has ended: another one would know none of the secrets."""
        if self.child.has_ended():
            raise OperatorError("the AWS emulator has ended, and its secrets with it: start `up` again, from nothing")


def require_installed() -> None:
    """Raise ConfigurationError when moto, or its server, is not installed."""
    if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
        raise ConfigurationError(
            f"--aws-emulator needs moto's server, of which {missing[0]} is not installed:"
            f" `{sys.executable} -m pip install '{REQUIREMENT}'`"
        )


def enter_account(url: str) -> None:
    """Make the emulator at `url` the AWS of this process and of its children."""
    change_environ(ACCOUNT | {"AWS_ENDPOINT_URL": url}, without=OTHERS + PROXIES)


def shell_line(url: str) -> str:
    """Return the line with which a shell enters the account of the emulator at `url`."""
    return " ".join(("export", *(f"{name}={value}" for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL": url}.items())))


@contextlib.contextmanager
def fresh_home() -> Iterator[Path]:
    """Make a home that ends with the run."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-emulator-") as folder:
        if os.geteuid() == ROOT:  # the embedded server runs as another user, who must be able to enter
            Path(folder).chmod(0o755)
        yield Path(folder)


def serve_emulator(listener: socket.socket) -> None:
    """Serve moto's Secrets Manager and KMS on this socket until the process ends."""
    # Some seconds' worth of libraries, which nobody else needs and few have.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request otherwise
    host, port = listener.getsockname()[:2]
    app = DomainDispatcherApplication(create_backend_app)
    make_server(host, port, app, threaded=True, fd=listener.fileno()).serve_forever()
