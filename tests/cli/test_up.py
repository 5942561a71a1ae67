import json
import shlex
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from email_gateway.cli.up import announce, announce_to_machine, curl_line, send_line
from email_gateway.settings import load_settings
from email_gateway.up import Credentials, Home, Running

KEYS = {"ENCRYPTION_KEY": "k" * 40, "ENCRYPTION_SALT": "s" * 40, "ADMIN_API_KEY": "a" * 40}


def make_running(home: Path, *, is_new_api_key: bool) -> Running:
    kept = Home(home)
    credentials = Credentials("k" * 40, "s" * 40, "a" * 40, "eg_1234_secret")
    kept.keep_credentials(credentials)
    return Running(
        home=kept,
        settings=load_settings({}, generated=KEYS),
        credentials=credentials,
        admin_key="a" * 40,
        base_url="http://127.0.0.1:8025",
        database_url="postgresql://user:password@127.0.0.1:5432/postgres",
        login_url="http://127.0.0.1:8025/dashboard/login#token=" + "t" * 43,
        is_new_api_key=is_new_api_key,
        took=timedelta(seconds=1),
    )


def arguments_of(line: str) -> list[str]:
    """Run the line in a shell whose `curl` prints what it was given."""
    script = "curl() { printf '%s\\0' \"$@\"; }\n" + line
    told = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True).stdout
    return told.split("\0")[:-1]


@pytest.mark.parametrize("is_new_api_key", [True, False])
def test_the_curl_line_sends_a_mail_with_the_real_key_from_any_shell(tmp_path: Path, is_new_api_key: bool) -> None:
    home = tmp_path / "a home's directory"
    home.mkdir()
    line = curl_line(make_running(home, is_new_api_key=is_new_api_key))

    assert "\n" not in line
    arguments = arguments_of(line)
    assert "Authorization: Bearer eg_1234_secret" in arguments
    assert "http://127.0.0.1:8025/v1/emails" in arguments
    mail = json.loads(arguments[arguments.index("-d") + 1])
    assert {"from", "to", "subject", "text"} <= set(mail)


def test_the_api_key_is_printed_in_full_at_the_first_start_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(make_running(tmp_path, is_new_api_key=True))
    first = capsys.readouterr().out
    announce(make_running(tmp_path, is_new_api_key=False))
    later = capsys.readouterr().out

    assert "eg_1234_secret" in first
    assert "eg_1234_secret" not in later
    assert str(tmp_path / "credentials.json") in later


def test_what_is_copied_stands_unbroken_on_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = make_running(tmp_path, is_new_api_key=True)
    announce(running)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert curl_line(running) in lines
    assert running.login_url in lines
    assert send_line(running) in lines


def test_no_other_secret_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce(make_running(tmp_path, is_new_api_key=True))
    told = capsys.readouterr().out
    assert all(secret not in told for secret in ("k" * 40, "s" * 40, "a" * 40, "password"))


def test_machines_get_one_line_with_the_agreed_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce_to_machine(make_running(tmp_path, is_new_api_key=False))
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert json.loads(told) == {
        "api_url": "http://127.0.0.1:8025/v1",
        "dashboard_url": "http://127.0.0.1:8025/dashboard",
        "api_key": "eg_1234_secret",
        "admin_key": "a" * 40,
        "database_url": "postgresql://user:password@127.0.0.1:5432/postgres",
        "home": str(tmp_path),
    }


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    running = make_running(tmp_path, is_new_api_key=True)
    shown = repr(running) + repr(running.credentials)
    assert all(secret not in shown for secret in ("k" * 40, "s" * 40, "a" * 40, "password", "eg_1234_secret", "t" * 43))


def test_the_send_line_names_a_home_that_is_not_the_usual_one(tmp_path: Path) -> None:
    assert ["--home", str(tmp_path)] == shlex.split(send_line(make_running(tmp_path, is_new_api_key=True)))[2:4]
