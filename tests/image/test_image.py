"""The Dockerfile's steps in a bare Debian, and compose.yaml's services from them: as nobody, and with nothing to write to."""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.embedded.programs import binaries
from tests.conftest import at
from tests.image.root import REPOSITORY, Container, get_image
from tests.plugins.marks import session_watch
from tests.test_container import SERVICES
from tests.up.running import eventually, fresh_home

pytestmark = [
    pytest.mark.needs("mmdebstrap"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the image's steps need root: `sudo make image-test`"),
]

PASSWORDS = ("POSTGRES_PASSWORD", "MIGRATOR_PASSWORD", "PROCESS_PASSWORD")
NAMES = (*PASSWORDS, "ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")
MAIL = {"from": "a@acme.example", "to": "b@example.net", "subject": "hello", "text": "from the image"}
# Of the compose file, which gives a value to a container: ${NAME:?what to do} and ${NAME:-default}.
VARIABLE = re.compile(r"\$\{(\w+):([?-])([^}]*)\}")


@pytest.fixture(scope="module")
def image() -> Container:
    try:
        return get_image()
    except subprocess.CalledProcessError as failed:
        return pytest.skip(f"a bare Debian cannot be made here: {failed.stderr[-200:].decode(errors='replace')}")


@dataclass
class Compose:
    """The services of compose.yaml, from the image, beside a PostgreSQL of this test's own."""

    image: Container
    server: str  # the superuser's URL
    given: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(32) for name in NAMES})

    def environ(self, service: str) -> dict[str, str]:
        """What the file gives to a service, with this machine's address of the database and without Redis."""
        given = {
            name: VARIABLE.sub(lambda found: self.given.get(found[1]) or (found[3] if found[2] == "-" else ""), value)
            for name, value in SERVICES[service]["environment"].items()
        }
        del given["LOG_FORMAT"]
        given.pop("REDIS_URL", None)
        port = urlsplit(self.server).port
        return given | {"DATABASE_URL": given["DATABASE_URL"].replace("postgres:5432", f"127.0.0.1:{port}")}

    def run(self, service: str, *arguments: str) -> tuple[int, str]:
        entry = [*self.image.stage.entrypoint, *(arguments or SERVICES[service]["command"])]
        return self.image.run(*entry, **self.environ(service))

    @contextlib.contextmanager
    def up(self, service: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
        """A service that runs; at the end it gets what engines send, and must end well by itself."""
        process = self.image.gateway(*SERVICES[service]["command"], **self.environ(service), **environ)
        try:
            yield process
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGTERM)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
        finally:
            process.kill()
            process.communicate()

    def sql(self, statement: str, database: str = "postgres", **environ: str) -> list[str]:
        """Run psql as the superuser, with a statement or the name of a file, and return the words it prints."""
        how = "--file" if statement.endswith(".sql") else "--command"
        done = subprocess.run(
            [
                binaries() / "psql",
                "--no-psqlrc",
                "--tuples-only",
                "--no-align",
                how,
                statement,
                at(self.server, database),
            ],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.fixture
def compose(image: Container) -> Iterator[Compose]:
    with fresh_home() as home:
        server = EmbeddedPostgres(home)
        try:
            compose = Compose(image, server.start())
            session_watch().add("a value of compose.env", *compose.given.values())
            compose.sql(str(REPOSITORY / "compose.sql"), **{name: compose.given[name] for name in PASSWORDS})
            yield compose
        finally:
            server.stop()


def test_it_runs_as_nobody_with_no_capability_and_nothing_to_write_to(image: Container) -> None:
    _, status = image.run("cat", "/proc/self/status")
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert found["Uid"].split() == ["10001"] * 4
    assert found["Gid"].split() == ["10001"] * 4
    assert {found[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapInh")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"
    for place in ("/", "/tmp", "/app", "/var/lib", "/home"):
        code, said = image.run("/app/.venv/bin/python", "-c", f"open('{place}/x', 'w')")
        assert code == 1
        assert "Read-only file system" in said


def test_every_command_can_be_asked_for_help(image: Container) -> None:
    code, said = image.run(*image.stage.entrypoint, "--help")
    assert code == 0
    assert "worker" in said


def test_the_image_holds_what_the_locks_have_and_no_source_of_ours_outside(image: Container) -> None:
    code, said = image.run(
        "/app/.venv/bin/python", "-c", "import email_gateway, asyncpg, boto3, pyrage; print(email_gateway.__file__)"
    )
    assert code == 0, said
    assert said.startswith("/app/.venv/lib/")


def test_the_services_of_compose_take_a_mail_and_deliver_it(compose: Compose) -> None:
    refused, said = compose.run("api", "migrate")
    assert refused != 0, "the processes' login must not change the schema"
    code, said = compose.run("migrate")
    assert code == 0, said
    assert "applied 0001" in said
    code, said = compose.run("api", "tenants", "create", "acme", "--json")
    assert code == 0, said
    api_key = json.loads(said.splitlines()[-1])["api_key"]
    port = str(free_port())
    check = [part.replace(":8025/", f":{port}/") for part in compose.image.stage.health]
    assert compose.image.run(*check)[0] == 1
    with compose.up("api", API_PORT=port), compose.up("worker"):
        assert eventually(lambda: compose.image.run(*check)[0] == 0)
        email_id = ask(port, api_key, "/emails", MAIL)["id"]
        assert eventually(lambda: ask(port, api_key, f"/emails/{email_id}")["last_event"] == "delivered")
        logins = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'email_gateway'"
        assert compose.sql(logins) == ["email_gateway_process"]
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert compose.sql(owners, database="email_gateway") == ["email_gateway_owner"]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def ask(port: str, api_key: str, path: str, body: object = None) -> Any:
    """Ask the API and return its answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
