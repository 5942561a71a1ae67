"""`up --aws-emulator`: the secrets in a Secrets Manager beside the gateway, and a rotation told step by step."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.secrets.show_rotation import _Mailer, _Show
from email_gateway.errors import ConfigurationError
from email_gateway.up.emulator import fresh_home as emulators_home
from email_gateway.up.emulator import require_installed, shell_line
from tests.moto_server import connect
from tests.plugins.marks import session_watch
from tests.up.running import Up, eventually, fresh_home, lives, read_line, running_up, said, start

OWN_ACCOUNT = {"AWS_PROFILE": "production", "AWS_ACCESS_KEY_ID": "AKIAREALACCOUNT", "AWS_SECRET_ACCESS_KEY": "real"}


STEP = re.compile(r"^ *[0-9.]+ s  (\S[\w ]*?)  ", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def values_of(url: str) -> list[str]:
    client = connect(url)
    names = [each["Name"] for each in client.list_secrets()["SecretList"]]
    return [client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"] for name in names]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "email_gateway.cli", *arguments],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    # With an account of one's own in the shell: nothing may go there.
    with fresh_home() as home, running_up(home, "--aws-emulator", **OWN_ACCOUNT) as running:
        session_watch().add("a secret of the emulator", *values_of(running.told["aws_endpoint_url"]))
        yield running


@pytest.fixture
def shown(up: Up, monkeypatch: pytest.MonkeyPatch) -> _Show:
    """The gateway as the command sees it; what it puts into the environment is taken back."""
    for name in ("USE_SECRETS_MANAGER", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "before")
    return _Show.open(Path(up.told["home"]))


def test_the_secrets_are_made_and_mail_is_sealed_with_them(up: Up) -> None:
    client = connect(up.told["aws_endpoint_url"])
    names = [each["Name"] for each in client.list_secrets()["SecretList"]]
    assert sorted(names) == [f"email-gateway/{name}" for name in ("admin-api-key", "encryption-key", "encryption-salt")]
    assert up.told["admin_key"] in values_of(up.told["aws_endpoint_url"])
    assert up.ask("/health/readyz")[1]["checks"]["secretsManager"] == "ok"
    email_id = up.send()
    assert eventually(lambda: up.is_delivered(email_id))


def test_no_value_stands_in_an_environment_an_argument_or_the_home(up: Up) -> None:
    seen = b"".join(
        Path(f"/proc/{pid}/{part}").read_bytes()
        for pid in (up.process.pid, *up.children())
        for part in ("environ", "cmdline")
    )
    seen += b"".join(path.read_bytes() for path in Path(up.told["home"]).glob("*.json"))
    assert not [value for value in values_of(up.told["aws_endpoint_url"]) if value.encode() in seen]


def test_a_whole_rotation_is_told_step_by_step(up: Up) -> None:
    before = values_of(up.told["aws_endpoint_url"])
    ran = run("secrets", "show-rotation", "--home", up.told["home"], **OWN_ACCOUNT)
    assert ran.returncode == 0, ran.stderr
    steps = STEP.findall(ran.stdout)
    assert steps == [
        "mail",
        "before",
        "new value",
        "refresh",
        "new root",
        "new key",
        "reseal",
        "verify",
        "old mail",
        "meanwhile",
    ]
    assert steps == STEP.findall(PAGE.read_text())
    for told in (
        r"api \d+ took version",
        r"worker \d+ took version",
        r"it opens (\d+) of \1 data keys; no value was sealed anew",
        r"reseal     [1-9]\d+ values moved to the new field key, 0 do not open",
        "the first mail opens, and reads as it was sent",
        r"[1-9]\d* mails were sent, 0 were refused",
    ):
        assert re.search(told, ran.stdout), told
    after = values_of(up.told["aws_endpoint_url"])
    assert len(set(before) ^ set(after)) == 2  # one value went, one came
    assert not [value for value in before + after if value in ran.stdout + ran.stderr]


def test_the_printed_line_lets_the_other_commands_see_the_emulator(up: Up) -> None:
    entered = dict(pair.split("=", 1) for pair in shell_line(up.told["aws_endpoint_url"]).split()[1:])
    ran = run("secrets", "verify", "--json", **entered)
    assert '"encryption-key"' in ran.stdout, ran.stderr


def test_a_gateway_that_lags_behind_ends_the_show(shown: _Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("email_gateway.cli.secrets.show_rotation.PATIENCE_SECONDS", 0.0)
    with pytest.raises(CommandFailed, match="not every process has taken the new version after 0 s"):
        shown.have_it_taken("a-version-that-nobody-has")


def test_mail_that_was_refused_ends_the_show(up: Up, shown: _Show) -> None:
    closed = up.send()
    mailer = _Mailer(shown.admin)  # with the admin key, which sends no mail
    mailer.start()
    assert eventually(lambda: mailer.refused > 0)
    mailer.is_over.set()
    mailer.join()
    with pytest.raises(CommandFailed, match=r"[1-9]\d* of [1-9]\d* mails were refused"):
        shown.read_again(closed, mailer)


def test_without_an_emulator_nothing_is_rotated(tmp_path: Path) -> None:
    ran = run("secrets", "show-rotation", "--home", str(tmp_path))
    assert ran.returncode == 1
    assert f"no gateway with an emulated AWS runs in {tmp_path}" in ran.stderr
    assert "`email-gateway up --aws-emulator`" in ran.stderr


def test_without_moto_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("email_gateway.up.emulator.MODULES", ("moto", "a_module_that_nobody_has"))
    with pytest.raises(ConfigurationError, match=r"-m pip install 'moto\[server,secretsmanager,kms\]'"):
        require_installed()


def test_a_home_of_its_own_ends_with_the_run() -> None:
    with emulators_home() as home:
        assert home.is_dir()
        (home / "file").touch()
    assert not home.exists()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"APP_ENV": "staging", "TRANSPORT": "inbox"}, "APP_ENV is staging: unset it"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/db"}, "unset DATABASE_URL"),
    ],
)
def test_data_that_nobody_could_open_later_is_refused_before_it_is_made(environ: dict[str, str], told: str) -> None:
    with fresh_home() as home:
        process = start(home, "--aws-emulator", "--port", "0", **environ)
        process.communicate(timeout=60)
        assert process.returncode == 78
        assert told in said(home)


def test_data_of_an_earlier_run_is_refused_and_an_emulator_that_dies_ends_the_gateway() -> None:
    with fresh_home() as home:
        with running_up(home, "--aws-emulator") as up:
            [emulator] = up.children("aws emulator")
            os.kill(emulator, signal.SIGKILL)
            assert up.process.wait(60) == 1
            assert "the AWS emulator has ended, and its secrets with it" in said(home)
        again = start(home, "--aws-emulator", "--port", "0")
        again.communicate(timeout=60)
        assert again.returncode == 78
        assert "holds data, and an AWS emulator begins without the keys that it was sealed with" in said(home)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_people_are_told_what_to_do_and_nothing_runs_on(how: signal.Signals, code: int) -> None:
    with fresh_home() as home:
        process = start(home, "--aws-emulator", "--port", "0")
        lines = []
        while (line := read_line(process)) and "Ctrl-C stops everything." not in line:
            lines.append(line)
        text = "".join(lines)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert f"secrets show-rotation --home {home}" in text
        assert "export USE_SECRETS_MANAGER=true AWS_REGION=us-east-1" in text
        assert "nobody can read the data again" in text
        assert children
        assert eventually(lambda: not any(map(lives, children)))
