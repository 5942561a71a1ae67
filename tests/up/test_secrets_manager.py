"""Everything on one machine, with the secrets in Secrets Manager: what other processes may see of them."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server
from tests.plugins.marks import session_watch
from tests.up.running import Up, eventually, fresh_home, running_up

PREFIX = "gateway-of-up"
VALUES = {
    "encryption-key": "a-key-that-nobody-else-may-see-0123456789",
    "encryption-salt": "a-salt-that-nobody-else-may-see-012345678",
    "admin-api-key": "an-admin-key-that-nobody-else-may-see-0123",
}


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with moto_server() as url, fresh_home() as home:
        create_secrets(connect(url), PREFIX, VALUES)
        session_watch().add("a secret of Secrets Manager", *VALUES.values())
        environ = {
            **AWS_ENVIRONMENT,
            "APP_ENV": "staging",
            "TRANSPORT": "inbox",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": url,
            "SECRETS_PREFIX": PREFIX,
        }
        with running_up(home, **environ) as running:
            yield running


def test_mail_is_sealed_with_the_keys_of_secrets_manager(up: Up) -> None:
    assert up.told["admin_key"] == VALUES["admin-api-key"]
    assert up.ask("/health/readyz")[1]["checks"]["secretsManager"] == "ok"
    email_id = up.send()
    assert eventually(lambda: up.states(email_id) == ["kept"])


def test_no_secret_stands_in_an_environment_an_argument_or_the_home(up: Up) -> None:
    seen = b"".join(
        Path(f"/proc/{pid}/{part}").read_bytes()
        for pid in (up.process.pid, *up.children())
        for part in ("environ", "cmdline")
    )
    seen += b"".join(path.read_bytes() for path in Path(up.told["home"]).glob("*.json"))
    assert not [name for name, value in VALUES.items() if value.encode() in seen]


def test_it_stops_in_order(up: Up) -> None:
    assert up.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("stored", "code", "told"),
    [
        ({"encryption-key": json.dumps({"encryption-key": VALUES["encryption-key"]})}, 78, "a JSON object"),
        ({"database-url": "postgresql://u:p@127.0.0.1:1/db"}, 1, "its URL is that of the secret {prefix}/database-url"),
    ],
    ids=["a wrapped key", "a database that is away"],
)
def test_a_secret_that_cannot_serve_ends_the_start_and_is_named(stored: dict[str, str], code: int, told: str) -> None:
    prefix = f"gateway-{uuid.uuid4().hex[:12]}"
    with moto_server() as url, fresh_home() as home:
        create_secrets(connect(url), prefix, {**VALUES, **stored})
        done = subprocess.run(
            [sys.executable, "-P", "-m", "email_gateway.cli", "up", "--home", str(home), "--port", "0", "--json"],
            env={
                **AWS_ENVIRONMENT,
                "PATH": os.environ["PATH"],
                "APP_ENV": "staging",
                "TRANSPORT": "inbox",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL": url,
                "SECRETS_PREFIX": prefix,
                "DATABASE_URL": "postgresql://somewhere/else",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == code, done.stderr
    assert told.format(prefix=prefix) in done.stderr
    assert not any(value in done.stdout + done.stderr for value in VALUES.values())
