"""What docs/aws.md takes for granted: an empty account, a PostgreSQL with two logins, a smarthost, and her files."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrage import x25519

from bench.gateway import HTTP, end, free_port
from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.logins import LOGINS, MIGRATOR, PROCESS, prepare_logins
from tests.delivery.certificates import Authority
from tests.moto_server import AWS_ENVIRONMENT
from tests.smtp_servers import SmtpServer

READY_SECONDS = 30.0
CACHE_SECONDS = 8  # where the page waits for five minutes to pass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment of the operator's shell, the server that her mail goes to, and what she must never see."""

    environ: dict[str, str]
    smarthost: SmtpServer
    passwords: tuple[str, ...]

    @property
    def aws_url(self) -> str:
        return self.environ["AWS_ENDPOINT_URL"]

    @property
    def port(self) -> str:
        """The port of the API, which the page has at its usual one."""
        return self.environ["API_PORT"]


@asynccontextmanager
async def surroundings(folder: Path) -> AsyncIterator[Surroundings]:
    """Make them; `folder` is where the operator works."""
    authority, password = Authority(), secrets.token_urlsafe(24)
    smarthost = SmtpServer(tls=authority.server(), users={"gateway": password})
    with _moto() as aws_url, _postgres() as postgres:
        await prepare_logins(postgres.url, {login: postgres.password_of(login) for login in LOGINS})
        async with smarthost:
            smtp_url = f"smtp://gateway:{password}@127.0.0.1:{smarthost.port}?tls=required"
            _write(folder / "smtp-url.txt", smtp_url)
            _write(folder / "owner.url", postgres.url_of(MIGRATOR))
            _write(folder / "database-url.txt", postgres.url_of(PROCESS))
            _write(folder / "authority.pem", authority.pem())
            identity = x25519.Identity.generate()
            _write(folder / "key.txt", str(identity))
            _write(folder / "recipients.txt", str(identity.to_public()))
            environ = {
                **AWS_ENVIRONMENT,
                "AWS_ENDPOINT_URL": aws_url,
                "API_PORT": str(free_port()),
                "SECRETS_CACHE_SECONDS": str(CACHE_SECONDS),
                "SSL_CERT_FILE": str(folder / "authority.pem"),
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
            passwords = (password, *(postgres.password_of(login) for login in LOGINS))
            yield Surroundings(environ, smarthost, passwords)


def _write(path: Path, text: str) -> None:
    path.write_text(f"{text}\n")
    path.chmod(0o600)


@contextmanager
def _moto() -> Iterator[str]:
    """Run moto's server as a process of its own: it keeps one account for each, and nothing here can reach into it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await_answer(url, process)
        yield url
    finally:
        end(process)


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with HTTP.open(f"{url}/moto-api/", timeout=1):
                return
        except (urllib.error.URLError, TimeoutError):
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.05)


@contextmanager
def _postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="email-gateway-pages-") as home:
        Path(home).chmod(0o755)  # the server's own user must be able to enter
        postgres = EmbeddedPostgres(Path(home))
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
