"""Everything on one machine, from the first start to a killed one: what a person sees."""

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from email_gateway.store.database import Database
from tests.up.running import PATIENCE_SECONDS, Up, eventually, fresh_home, lives, read_line, running_up, said, start


@pytest.fixture
def home() -> Iterator[Path]:
    with fresh_home() as path:
        yield path


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One running gateway for the tests that only look at it."""
    with fresh_home() as home, running_up(home) as running:
        yield running


def test_one_line_on_standard_output_tells_what_scripts_need(up: Up) -> None:
    assert set(up.told) == {"api_url", "dashboard_url", "api_key", "admin_key", "database_url", "home"}
    assert up.told["api_url"].endswith("/v1")
    assert up.ask("/health/readyz")[1]["status"] == "healthy"


def test_a_mail_sent_over_http_is_delivered(up: Up) -> None:
    email_id = up.send()
    assert eventually(lambda: up.is_delivered(email_id))
    kinds = [event["type"] for event in up.ask(f"/emails/{email_id}/events")[1]["data"]]
    assert kinds == ["accepted", "sending", "delivered"]


@pytest.mark.anyio
async def test_what_was_delivered_stands_in_the_inbox(up: Up) -> None:
    email_id = up.send()
    assert eventually(lambda: up.is_delivered(email_id))
    db = await Database.connect(up.told["database_url"], pool_size=1)
    rows = await db.fetch("SELECT message_id FROM inbox_mail WHERE message_id = $1::text::uuid", email_id)
    await db.close()
    assert len(rows) == 1


def test_credentials_are_for_the_owner_only_and_the_admin_key_is_one_of_them(up: Up) -> None:
    file = Path(up.told["home"]) / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert (kept["api_key"], kept["admin_api_key"]) == (up.told["api_key"], up.told["admin_key"])


def test_no_child_has_a_secret_in_its_environment_or_arguments(up: Up) -> None:
    kept = json.loads((Path(up.told["home"]) / "credentials.json").read_text())
    password = up.told["database_url"].split(":")[2].split("@")[0]
    children = up.children()
    assert len(children) == 3
    for pid in (up.process.pid, *children):
        seen = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not [name for name, value in kept.items() if value.encode() in seen]
        assert password.encode() not in seen


def test_no_process_writes_core_files(up: Up) -> None:
    for pid in (up.process.pid, *up.children()):
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        assert next(line for line in limits if line.startswith("Max core file size")).split()[4:6] == ["0", "0"]


def test_the_dashboard_is_where_it_says(up: Up) -> None:
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(up.told["dashboard_url"])
    assert page.status_code == 200
    assert "Log in" in page.text


@pytest.mark.parametrize("part", ["cli api", "cli worker", "postgres -D"])
def test_a_part_that_is_killed_comes_back_and_mail_flows(up: Up, part: str) -> None:
    (before,) = up.children(part)
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: up.children(part) not in ([], [before]))
    sent: list[str] = []
    assert eventually(lambda: accepts(up, sent))
    assert eventually(lambda: up.is_delivered(sent[0]))


def test_a_second_start_in_the_same_home_finds_it_in_use(up: Up) -> None:
    home = Path(up.told["home"])
    second = start(home, "--port", "0")
    second.communicate(timeout=PATIENCE_SECONDS)
    error = said(home)
    assert second.returncode == 78
    assert f"process {up.process.pid}" in error
    assert "--home" in error


def test_what_was_sent_is_there_after_a_stop_and_a_start(home: Path) -> None:
    with running_up(home) as first:
        email_id = first.send()
        assert eventually(lambda: first.is_delivered(email_id))
        children = first.children()
        assert first.stop(signal.SIGINT) == 0
        assert not [pid for pid in children if lives(pid)]
        assert not (home / "runtime.json").exists()
    with running_up(home) as second:
        assert second.told["api_key"] == first.told["api_key"]
        assert second.told["admin_key"] == first.told["admin_key"]
        assert second.is_delivered(email_id)
        assert second.stop(signal.SIGTERM) == 0


def test_a_killed_up_leaves_no_process_and_the_next_start_works(home: Path) -> None:
    with running_up(home) as first:
        email_id = first.send()
        assert eventually(lambda: first.is_delivered(email_id))
        children = first.children()
        first.stop(signal.SIGKILL)
    assert eventually(lambda: not [pid for pid in children if lives(pid)])
    with running_up(home) as second:
        assert second.is_delivered(email_id)
        assert second.send()


def test_a_stop_during_the_start_leaves_nothing_running(home: Path) -> None:
    process = start(home, "--port", "0", "--json")
    assert eventually((home / "postgres").exists)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert told == ""
    with running_up(home) as second:
        assert second.send()


def test_a_second_ctrl_c_waits_for_nobody(home: Path) -> None:
    with running_up(home) as running, socket.create_connection(address_of(running)) as connection:
        connection.sendall(b"POST /v1/emails HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        running.process.send_signal(signal.SIGINT)
        assert eventually(lambda: "Shutting down" in said(home))
        assert running.stop(signal.SIGINT) == 0
        assert "api_stopped" not in said(home)


def test_a_taken_port_is_named_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(home, "--port", str(port))
        process.communicate(timeout=PATIENCE_SECONDS)
    error = said(home)
    assert process.returncode == 1
    assert f"port {port}" in error
    assert "--port" in error
    assert not (home / "postgres").exists()
    assert not (home / "credentials.json").exists()


def test_several_api_processes_share_the_port(home: Path) -> None:
    with running_up(home, API_PROCESSES="2") as running:
        assert len(running.children("cli api")) == 2
        assert [running.ask("/health/livez")[0] for _ in range(20)] == [200] * 20
        assert running.stop() == 0


def test_a_person_sees_the_key_and_a_curl_line(home: Path) -> None:
    process = start(home, "--port", "0")
    lines: list[str] = []
    while not lines or "Ctrl-C" not in lines[-1]:
        lines.append(read_line(process))
        assert lines[-1], said(home)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    key = json.loads((home / "credentials.json").read_text())["api_key"]
    assert sum(line.strip().startswith("curl ") and key in line for line in lines) == 1
    assert process.returncode == 0


def test_settings_of_the_environment_win_and_are_kept_for_later_starts(home: Path) -> None:
    chosen = {"ENCRYPTION_KEY": "k" * 40, "ENCRYPTION_SALT": "s" * 40, "ADMIN_API_KEY": "a" * 40}
    with running_up(home, **chosen) as first:
        assert first.told["admin_key"] == "a" * 40
        email_id = first.send()
    with running_up(home) as second:
        assert second.told["admin_key"] == "a" * 40
        assert eventually(lambda: second.is_delivered(email_id))


def test_another_root_key_is_refused_with_78(home: Path) -> None:
    with running_up(home):
        pass
    process = start(home, "--port", "0", ENCRYPTION_KEY="another" * 8)
    process.communicate(timeout=PATIENCE_SECONDS)
    error = said(home)
    assert process.returncode == 78
    assert "root key" in error


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_IAM_AUTH": "true", "AWS_REGION": "us-east-1"},
        {"TLS_CERT_FILE": "/etc/server.pem", "TLS_KEY_FILE": "/etc/server.pem"},
    ],
    ids=["iam", "tls"],
)
def test_what_is_for_processes_that_run_apart_is_refused_with_78(home: Path, environ: dict[str, str]) -> None:
    process = start(home, "--port", "0", **environ)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 78
    assert "unset them for `up`" in said(home)


def address_of(up: Up) -> tuple[str, int]:
    parts = urlsplit(up.told["api_url"])
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def accepts(up: Up, sent: list[str]) -> bool:
    """Send a mail as a client does: what is answered 503, or cut off, is sent again."""
    try:
        sent.append(up.send())
    except OSError:
        return False
    return True
