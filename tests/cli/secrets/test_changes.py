"""`secrets rotate | rollback | set`: another value, never by accident, and never one that the gateway would not take."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.secrets.conftest import Shell
from tests.moto_server import begin_rotation, settle_current

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:email-gateway-rotation"
SMTP = "smtp://user:MARK-password@mail.example.com:587"
OTHER_SMTP = "smtp://user:MARK-another@mail.example.com:587"
GENERATED = ("encryption-key", "encryption-salt", "admin-api-key", "rotation-key")


@pytest.fixture
def made(shell: Shell) -> Shell:
    assert shell.run("init", "rotation-key", "smtp-url", "database-url").code == 0
    return shell


def labels(shell: Shell, name: str) -> list[list[str]]:
    described = shell.client.describe_secret(SecretId=f"{shell.prefix}/{name}")
    return sorted(sorted(each) for each in described["VersionIdsToStages"].values())


@pytest.mark.parametrize("name", GENERATED)
def test_rotating_by_hand_makes_a_new_version_and_keeps_the_one_before(made: Shell, name: str) -> None:
    before, old = made.labelled(name, "AWSCURRENT")
    ran = made.run("rotate", name, "--json")
    assert ran.code == 0
    current, new = made.labelled(name, "AWSCURRENT")
    assert ran.told == {
        "name": name, "done": "rotated", "version_id": current, "former_version_id": before, "by_function": False,
        "unpinned": [],
    }  # fmt: skip
    assert made.labelled(name, "AWSPREVIOUS") == (before, old)
    assert new != old
    assert made.run("verify").code == 0
    # A root key is needed as long as a backup is: Secrets Manager prunes no version with a label.
    pins = [each for each in labels(made, name) if any(label.startswith("EGW-") for label in each)]
    assert len(pins) == (2 if name.startswith("encryption-") else 0)
    assert made.run("rotate", name).code == 0
    assert (current, new) == made.labelled(name, "AWSPREVIOUS")


def test_people_are_told_what_the_gateway_then_does(made: Shell) -> None:
    assert "`email-gateway keys verify`" in made.run("rotate", "encryption-key").out
    told = made.run("rotate", "admin-api-key").out
    assert "ten more minutes" in told
    assert "secrets refresh --revoke-previous" in told
    assert "`email-gateway secrets refresh`" in told


def test_a_url_is_not_made_up(made: Shell) -> None:
    ran = made.run("rotate", "smtp-url")
    assert ran.code == 1
    assert "secrets set smtp-url --from-file FILE" in ran.err


@pytest.mark.parametrize("command", [("rotate", "encryption-key"), ("set", "encryption-key", "--from-file", "-")])
def test_a_pending_rotation_is_not_abandoned_unless_told_so(made: Shell, command: tuple[str, ...]) -> None:
    value = "MARK-another-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"
    before = made.labelled("encryption-key", "AWSCURRENT")
    pending = begin_rotation(f"{made.prefix}/encryption-key")
    ran = made.run(*command, stdin=value)
    assert ran.code == 1
    assert f"version {pending} has AWSPENDING" in ran.err
    assert "--abandon-pending" in ran.err
    assert made.labelled("encryption-key", "AWSCURRENT") == before
    assert ["AWSPENDING"] in labels(made, "encryption-key")
    assert made.run(*command, "--abandon-pending", stdin=value).code == 0
    assert ["AWSPENDING"] not in labels(made, "encryption-key")
    assert made.labelled("encryption-key", "AWSPREVIOUS") == before


def test_a_label_that_stayed_on_the_current_version_is_no_pending_rotation(made: Shell) -> None:
    version, _ = made.labelled("admin-api-key", "AWSCURRENT")
    made.client.update_secret_version_stage(
        SecretId=f"{made.prefix}/admin-api-key", VersionStage="AWSPENDING", MoveToVersionId=version
    )
    assert made.run("verify").code == 0
    assert made.run("rotate", "admin-api-key").code == 0


class Function:
    """What Secrets Manager and its function do on RotateSecret, which moto's needs Docker for."""

    def __init__(self, shell: Shell, *, finishes: bool) -> None:
        kept = shell.kept()["encryption-key"]
        kept.rotation_requested = kept.rotation_enabled = True
        kept.rotation_lambda_arn = FUNCTION
        self.shell, self.finishes = shell, finishes
        self.requests: list[dict[str, Any]] = []
        self.looked = threading.Event()
        shell.proxy.answers["RotateSecret"] = self.begin
        shell.proxy.after = self.look

    def begin(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(request)
        self.pending = request["ClientRequestToken"]
        kept = self.shell.kept()["encryption-key"]
        kept.versions[self.pending] = {
            "createdate": 0, "version_id": self.pending, "version_stages": ["AWSPENDING"],
            "secret_string": "MARK-made-by-the-function-7a7a7a7a-0123456789",
        }  # fmt: skip
        return 200, {"ARN": kept.arn, "Name": kept.name, "VersionId": self.pending}

    def look(self, action: str) -> None:
        """Finish once the command has looked and found it pending."""
        if action == "DescribeSecret" and self.requests and self.finishes and not self.looked.is_set():
            self.looked.set()
            full_name = f"{self.shell.prefix}/encryption-key"
            current, _ = self.shell.labelled("encryption-key", "AWSCURRENT")
            self.shell.client.update_secret_version_stage(
                SecretId=full_name, VersionStage="AWSCURRENT", MoveToVersionId=self.pending, RemoveFromVersionId=current
            )
            settle_current(full_name)


def test_a_secret_with_a_rotation_function_is_rotated_by_it(made: Shell) -> None:
    function = Function(made, finishes=True)
    before, _ = made.labelled("encryption-key", "AWSCURRENT")
    ran = made.run("rotate", "encryption-key", "--json")
    assert ran.code == 0, ran
    assert ran.told["by_function"] is True
    assert ran.told["version_id"] == function.pending == made.labelled("encryption-key", "AWSCURRENT")[0]
    assert ran.told["former_version_id"] == before
    assert function.looked.is_set()


def test_a_function_that_does_not_finish_is_named_and_its_rotation_stays_pending(made: Shell) -> None:
    function = Function(made, finishes=False)
    before = made.labelled("encryption-key", "AWSCURRENT")
    ran = made.run("rotate", "encryption-key", "--wait", "0")
    assert ran.code == 1
    assert f"has not finished version {function.pending}" in ran.err
    assert "CloudWatch" in ran.err
    assert made.labelled("encryption-key", "AWSCURRENT") == before
    # The next one is refused, until it is told to give the first one up; then the function is asked anew.
    assert made.run("rotate", "encryption-key", "--wait", "0").code == 1
    assert len(function.requests) == 1
    made.run("rotate", "encryption-key", "--wait", "0", "--abandon-pending")
    assert len(function.requests) == 2


@pytest.mark.parametrize("name", ["encryption-key", "admin-api-key"])
def test_rolling_back_makes_the_version_before_current_and_once_more_goes_forward(made: Shell, name: str) -> None:
    first = made.labelled(name, "AWSCURRENT")
    made.run("rotate", name)
    second = made.labelled(name, "AWSCURRENT")
    ran = made.run("rollback", name)
    assert ran.code == 0
    assert ("mail sealed since stays readable" in ran.out) == (name == "encryption-key")
    assert made.labelled(name, "AWSCURRENT") == first
    assert made.labelled(name, "AWSPREVIOUS") == second
    told = made.run("rollback", name, "--json").told
    assert (told["version_id"], told["former_version_id"]) == (second[0], first[0])
    assert made.labelled(name, "AWSCURRENT") == second


def test_there_is_no_way_back_from_a_first_value(made: Shell) -> None:
    ran = made.run("rollback", "encryption-key")
    assert ran.code == 1
    assert "no version before the current one" in ran.err


def test_a_version_before_that_the_gateway_would_not_take_stays_where_it_is(made: Shell) -> None:
    made.client.put_secret_value(SecretId=f"{made.prefix}/encryption-key", SecretString='{"MARK": "a wrapped value"}')
    made.run("rotate", "encryption-key")
    current = made.labelled("encryption-key", "AWSCURRENT")
    ran = made.run("rollback", "encryption-key")
    assert ran.code == 1
    assert "a JSON object" in ran.err
    assert made.labelled("encryption-key", "AWSCURRENT") == current


def test_rolling_back_during_a_rotation_is_refused_since_its_end_would_undo_it(made: Shell) -> None:
    made.run("rotate", "encryption-key")
    current = made.labelled("encryption-key", "AWSCURRENT")
    begin_rotation(f"{made.prefix}/encryption-key")
    assert "pending" in made.run("rollback", "encryption-key").err
    assert made.labelled("encryption-key", "AWSCURRENT") == current
    assert made.run("rollback", "encryption-key", "--abandon-pending").code == 0


def test_a_value_is_stored_from_a_file_or_a_pipe_without_the_editors_line_end(made: Shell, tmp_path: Path) -> None:
    file = tmp_path / "smtp-url.txt"
    file.write_text(f"{SMTP}\r\n")
    assert made.run("set", "smtp-url", "--from-file", str(file)).code == 0
    assert made.labelled("smtp-url", "AWSCURRENT")[1] == SMTP
    ran = made.run("set", "smtp-url", "--from-file", "-", "--json", stdin=OTHER_SMTP)
    assert ran.told["version_id"] == made.labelled("smtp-url", "AWSCURRENT")[0]
    assert made.labelled("smtp-url", "AWSCURRENT")[1] == OTHER_SMTP


def test_the_json_that_rds_keeps_is_stored_as_it_is(made: Shell) -> None:
    kept = {"engine": "postgres", "host": "db", "username": "u", "password": "MARK-p", "dbname": "d"}
    assert made.run("set", "database-url", "--from-file", "-", stdin=json.dumps(kept)).code == 0
    assert json.loads(made.labelled("database-url", "AWSCURRENT")[1]) == kept
    again = made.run("set", "database-url", "--from-file", "-", stdin="postgresql://u:MARK-p@db:5432/d")
    assert "has this value already" in again.err


@pytest.mark.parametrize(
    ("name", "stored", "problem"),
    [
        ("smtp-url", f'"{SMTP}"', "in quotes"),
        ("encryption-key", '{"encryption-key": "MARK4d1f0e6c8a4b4f8e9c550123456789ab"}', "a JSON object"),
        ("encryption-key", "changeme-MARK-changeme-MARK-changeme", "a placeholder"),
        ("admin-api-key", "MARK-short", "at least 32 characters"),
        ("redis-url", "MARK://host", "must look like"),
        ("encryption-salt", "", "must not be empty"),
    ],
)
def test_what_the_gateway_would_not_take_is_not_stored(made: Shell, name: str, stored: str, problem: str) -> None:
    before = made.values()
    ran = made.run("set", name, "--from-file", "-", stdin=stored)
    assert ran.code == 1
    assert problem in ran.err
    assert "nothing was stored" in ran.err
    assert made.values() == before


@pytest.mark.parametrize("around", ["{}", " {}\n"])
def test_the_value_that_is_there_is_refused(made: Shell, around: str) -> None:
    _, current = made.labelled("encryption-key", "AWSCURRENT")
    ran = made.run("set", "encryption-key", "--from-file", "-", stdin=around.format(current))
    assert ran.code == 1
    assert "has this value already" in ran.err
    assert len(made.values()["encryption-key"]) == 1


@pytest.mark.parametrize(
    ("name", "other"), [("encryption-key", "encryption-salt"), ("encryption-salt", "encryption-key")]
)
def test_a_key_that_is_the_salt_is_refused(made: Shell, name: str, other: str) -> None:
    _, twin = made.labelled(other, "AWSCURRENT")
    ran = made.run("set", name, "--from-file", "-", stdin=twin)
    assert ran.code == 1
    assert "the two must differ" in ran.err


def test_a_wrapped_value_is_mended_by_storing_the_value_alone(made: Shell) -> None:
    made.client.put_secret_value(SecretId=f"{made.prefix}/encryption-key", SecretString='{"MARK": "a wrapped value"}')
    value = "MARK-another-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"
    assert made.run("set", "encryption-key", "--from-file", "-", stdin=value).code == 0
    assert made.run("verify").code == 0


@pytest.mark.parametrize(
    ("content", "problem"), [(b"\xff\xfe MARK", "must be readable UTF-8 text"), (b"x" * 65_537, "longer than")]
)
def test_a_file_that_is_no_text_is_refused(made: Shell, tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "value"
    file.write_bytes(content)
    ran = made.run("set", "encryption-key", "--from-file", str(file))
    assert ran.code == 1
    assert problem in ran.err


def test_a_file_that_is_not_there_is_named(made: Shell, tmp_path: Path) -> None:
    ran = made.run("set", "encryption-key", "--from-file", str(tmp_path / "nothing"))
    assert ran.code == 1
    assert str(tmp_path / "nothing") in ran.err


@pytest.mark.parametrize("command", [("rotate",), ("rollback",), ("set", "--from-file", "-")])
def test_a_secret_that_is_not_there_or_to_be_deleted_is_not_changed(shell: Shell, command: tuple[str, ...]) -> None:
    first, *rest = command
    value = "MARK-another-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"
    ran = shell.run(first, "rotation-key", *rest, stdin=value)
    assert ran.code == 1
    assert "email-gateway secrets init rotation-key" in ran.err
    shell.run("init", "rotation-key")
    shell.client.delete_secret(SecretId=f"{shell.prefix}/rotation-key", RecoveryWindowInDays=7)
    ran = shell.run(first, "rotation-key", *rest, stdin=value)
    assert ran.code == 1
    assert "restore-secret" in ran.err


def test_a_lost_answer_to_put_makes_one_version(made: Shell) -> None:
    lost: list[str] = []

    def lose(action: str) -> None:
        if action == "PutSecretValue" and not lost:
            lost.append(action)
            raise ConnectionAbortedError

    made.proxy.after = lose
    assert made.run("rotate", "admin-api-key").code == 0
    assert lost
    assert len(made.values()["admin-api-key"]) == 2


def test_a_policy_that_denies_is_named_as_a_possible_cause(made: Shell) -> None:
    made.proxy.answers["PutSecretValue"] = lambda _: (400, {"__type": "AccessDeniedException", "message": "MARK"})
    ran = made.run("rotate", "encryption-key")
    assert ran.code == 1
    assert "a resource policy may deny it as well" in ran.err


def test_a_label_that_is_denied_does_not_hide_that_the_value_has_changed(made: Shell) -> None:
    denied = {"__type": "AccessDeniedException", "message": "MARK"}
    made.proxy.answers["UpdateSecretVersionStage"] = lambda _: (400, denied)
    before, _ = made.labelled("encryption-key", "AWSCURRENT")
    ran = made.run("rotate", "encryption-key")
    assert ran.code == 0
    current, _ = made.labelled("encryption-key", "AWSCURRENT")
    assert current != before
    for version in (before, current):
        assert f"note:  version {version} has no label" in ran.out
