"""The api and the worker run apart, as in production: their signals, their exit codes, several on one port."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import KEY, SALT
from tests.delivery.certificates import Authority
from tests.plugins.marks import session_watch
from tests.up.running import MAIL, PATIENCE_SECONDS, children_of, eventually, lives

pytestmark = pytest.mark.anyio

KEYS = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "a" * 40}


class Part:
    """A running part and what it has said on standard error."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process = process
        self._said = said

    def has_said(self, words: str) -> bool:
        return words in self._said.read_text()

    @property
    def port(self) -> int:
        """The port that the api said it listens on."""
        match = re.search(r"api_ready.*port\D+(\d+)", self._said.read_text())
        assert match
        return int(match[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[Part]:
    """Start a part with nothing in its environment but the keys and what is given."""
    session_watch().add("a key of a part", *KEYS.values())
    said = session_watch().folder / f"{folder.name}-{arguments[0]}.log"
    with said.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "email_gateway.cli", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", **KEYS, **environ},
            stderr=errors,
        )
    try:
        yield Part(process, said)
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def make_api_key(database_url: str) -> str:
    made = subprocess.run(
        [sys.executable, "-P", "-m", "email_gateway.cli", "tenants", "create", "acme", "--json"],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
        check=True,
        capture_output=True,
    )
    return str(json.loads(made.stdout)["api_key"])


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_with_a_certificate_of_its_own_the_api_takes_mail_over_verified_tls(
    tmp_path: Path, database_url: str, processes: str
) -> None:
    authority, pem = Authority(), tmp_path / "server.pem"
    pem.write_bytes(authority.server_pem())
    own = {"TLS_CERT_FILE": str(pem), "TLS_KEY_FILE": str(pem), "API_PROCESSES": processes}
    key = make_api_key(database_url)
    with running(tmp_path, "api", "--port", "0", DATABASE_URL=database_url, **own) as api:
        assert eventually(lambda: api.has_said("api_ready"))
        async with httpx.AsyncClient(verify=authority.trust(), timeout=PATIENCE_SECONDS) as client:
            url = f"https://127.0.0.1:{api.port}/v1"
            assert (await client.get(f"{url}/health/readyz")).json()["status"] == "healthy"
            sent = await client.post(f"{url}/emails", json=MAIL, headers={"Authorization": f"Bearer {key}"})
            assert sent.status_code == 202
        assert api.stop() == 0


async def test_a_certificate_that_cannot_serve_is_exit_code_78(tmp_path: Path, database_url: str) -> None:
    missing = str(tmp_path / "none.pem")
    with running(tmp_path, "api", DATABASE_URL=database_url, TLS_CERT_FILE=missing, TLS_KEY_FILE=missing) as api:
        assert api.process.wait(PATIENCE_SECONDS) == 78
        assert api.has_said("TLS_CERT_FILE and TLS_KEY_FILE cannot serve (No such file or directory)")


async def test_a_worker_ends_with_0_when_it_is_told_to(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, "worker", DATABASE_URL=database_url) as worker:
        assert eventually(lambda: worker.has_said("worker_ready"))
        assert worker.stop() == 0


async def test_an_api_answers_what_was_asked_before_it_ends_with_0(tmp_path: Path, database_url: str) -> None:
    body = json.dumps(MAIL).encode()
    head = (
        f"POST /v1/emails HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {make_api_key(database_url)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with running(tmp_path, "api", "--port", "0", DATABASE_URL=database_url) as api:
        assert eventually(lambda: api.has_said("Application startup complete"))
        with socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head.encode() + body[:10])
            assert eventually(lambda: has_read(connection))
            api.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: api.has_said("Shutting down"))
            connection.sendall(body[10:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 202")
        assert api.process.wait(PATIENCE_SECONDS) == 0


async def test_several_api_processes_come_back_one_by_one_and_end_together(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, "api", "--port", "0", "--processes", "2", DATABASE_URL=database_url) as api:
        assert eventually(lambda: api.has_said("api_ready"))
        before = children_of(api.process.pid)
        assert len(before) == 2

        os.kill(before[0], signal.SIGKILL)
        assert eventually(lambda: len(set(children_of(api.process.pid)) - {before[0]}) == 2)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{api.port}/v1/health/livez")).status_code == 200

        children = children_of(api.process.pid)
        assert api.stop() == 0
        assert not [pid for pid in children if lives(pid)]


async def test_api_processes_do_not_outlive_a_parent_that_was_killed(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, "api", "--port", "0", "--processes", "2", DATABASE_URL=database_url) as api:
        assert eventually(lambda: api.has_said("api_ready"))
        children = children_of(api.process.pid)
        api.process.kill()
        assert eventually(lambda: not [pid for pid in children if lives(pid)])


@pytest.mark.parametrize("arguments", [("api", "--port", "0"), ("api", "--port", "0", "--processes", "2"), ("worker",)])
async def test_a_part_without_a_database_ends_with_78(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with running(tmp_path, *arguments) as part:
        assert part.process.wait(PATIENCE_SECONDS) == 78
        assert part.has_said("DATABASE_URL")


async def test_a_part_on_an_empty_database_says_to_migrate(tmp_path: Path, postgres_url: str) -> None:
    with running(tmp_path, "worker", DATABASE_URL=postgres_url) as worker:
        assert worker.process.wait(PATIENCE_SECONDS) == 1
        assert worker.has_said("email-gateway migrate")


def has_read(connection: socket.socket) -> bool:
    """Whether the other side's kernel has acknowledged all that we sent."""
    return fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) == bytes(4)
