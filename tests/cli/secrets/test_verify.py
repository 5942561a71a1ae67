"""`secrets verify`: one thing wrong at a time, each named with what to do, and an exit code that scripts can read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.secrets.conftest import ROLES, Shell
from tests.moto_server import begin_rotation

DAY = 86_400


@pytest.fixture
def made(shell: Shell) -> Shell:
    assert shell.run("init", *ROLES).code == 0
    return shell


def age(shell: Shell, name: str, days: float) -> None:
    """Make the current version so old."""
    for version in shell.kept()[name].versions.values():
        version["createdate"] = int((datetime.now(UTC) - timedelta(days=days)).timestamp())


def remarks(shell: Shell, code: int) -> dict[str, tuple[str, str, str]]:
    """Run it for machines; return verdict, problem and next step of the first remark about each."""
    ran = shell.run("verify", "--json")
    assert ran.code == code, ran
    told = reversed(ran.told["remarks"])
    return {each["about"]: (each["verdict"], each["problem"], each["next_step"]) for each in told}


def test_an_account_that_is_right_needs_nothing(made: Shell) -> None:
    ran = made.run("verify")
    assert ran.code == 0
    assert "nothing is to be done" in ran.out
    assert "arn:aws:sts::123456789012:user/moto" in ran.out
    told = made.run("verify", "--json").told
    assert told["verdict"] == "ok"
    by_name = {each["name"]: each for each in told["secrets"]}
    key = by_name["encryption-key"]
    assert key["current"] == made.labelled("encryption-key", "AWSCURRENT")[0]
    assert key["labels"] == {key["current"]: ["AWSCURRENT"]}
    assert (key["is_there"], key["is_readable"], key["has_right_form"], key["has_right_kms_key"]) == (True,) * 4
    assert key["is_guarded"] is True
    assert key["most_age"] == 90 * DAY
    assert by_name["admin-api-key"]["most_age"] == 60 * DAY
    assert by_name["smtp-url"]["is_there"] is False
    assert told["permissions"]["secretsmanager:GetSecretValue"] == "allowed"


def test_an_empty_account_is_told_to_init(shell: Shell) -> None:
    found = remarks(shell, 1)
    assert set(found) == {shell.alias, "encryption-key", "encryption-salt", "admin-api-key"}
    assert all(next_step == "`email-gateway secrets init`" for _, _, next_step in found.values())


@pytest.mark.parametrize(
    ("name", "stored", "form"),
    [
        ("encryption-key", '{"encryption-key": "MARK4d1f0e6c8a4b4f8e9c550123456789ab"}', "a JSON object"),
        ("encryption-salt", "changeme-MARK-changeme-MARK-changeme", "a placeholder"),
        ("admin-api-key", "too-short", "at least 32 characters"),
    ],
)
def test_a_value_of_another_form_is_named(made: Shell, name: str, stored: str, form: str) -> None:
    made.client.put_secret_value(SecretId=f"{made.prefix}/{name}", SecretString=stored)
    verdict, problem, next_step = remarks(made, 1)[name]
    assert verdict == "act"
    assert form in problem
    assert next_step == f"`email-gateway secrets rotate {name}`"


def test_a_key_that_is_the_salt_is_named(made: Shell) -> None:
    _, key = made.labelled("encryption-key", "AWSCURRENT")
    made.client.put_secret_value(SecretId=f"{made.prefix}/encryption-salt", SecretString=key)
    assert "same text as the encryption key" in remarks(made, 1)["encryption-salt"][1]


@pytest.mark.parametrize(
    ("name", "days", "verdict"),
    [
        ("encryption-key", 80, None), ("encryption-key", 83, "advice"), ("encryption-key", 91, "act"),
        ("encryption-salt", 91, "act"), ("admin-api-key", 53, None), ("admin-api-key", 56, "advice"),
        ("admin-api-key", 61, "act"),
    ],
)  # fmt: skip
def test_a_value_may_become_so_old(made: Shell, name: str, days: int, verdict: str | None) -> None:
    age(made, name, days)
    found = remarks(made, 1 if verdict == "act" else 0)
    assert (found[name][0] if name in found else None) == verdict
    if verdict:
        assert f"{days} days old" in found[name][1]


def test_a_rotation_that_hangs_is_named(made: Shell) -> None:
    begin_rotation(f"{made.prefix}/encryption-key")
    verdict, problem, next_step = remarks(made, 1)["encryption-key"]
    assert verdict == "act"
    assert "AWSPENDING" in problem
    assert "--abandon-pending" in next_step


def test_rotation_is_shown_with_its_next_date_and_one_that_is_overdue_is_named(made: Shell) -> None:
    kept = made.kept()["encryption-key"]
    kept.rotation_requested = kept.rotation_enabled = True
    kept.rotation_lambda_arn = "arn:aws:lambda:us-east-1:123456789012:function:rotation"
    kept.next_rotation_date = int((datetime.now(UTC) + timedelta(days=30)).timestamp())
    told = made.run("verify", "--json").told
    (key,) = [each for each in told["secrets"] if each["name"] == "encryption-key"]
    assert key["rotation"] is True
    assert datetime.fromisoformat(key["next_rotation_at"]) > datetime.now(UTC) + timedelta(days=29)
    kept.next_rotation_date = int((datetime.now(UTC) - timedelta(days=1)).timestamp())
    assert "overdue" in remarks(made, 1)["encryption-key"][1]


def test_deletion_another_kms_key_and_a_missing_policy_are_named(shell: Shell) -> None:
    assert shell.run("init").code == 0
    other = shell.kms.create_key()["KeyMetadata"]["KeyId"]
    shell.kept()["encryption-salt"].kms_key_id = other
    shell.kept()["admin-api-key"].kms_key_id = None
    shell.client.delete_secret(SecretId=f"{shell.prefix}/encryption-key", RecoveryWindowInDays=7)
    ran = shell.run("verify")
    assert ran.code == 1
    assert "another KMS key encrypts it" in ran.out
    assert "AWS's own KMS key encrypts it" in ran.out
    assert f"aws secretsmanager restore-secret --secret-id {shell.prefix}/encryption-key" in ran.out
    assert "no resource policy denies its deletion" in ran.out
    assert "email-gateway secrets init --administrator ROLE_ARN --rotation ROLE_ARN" in ran.out


def test_a_secret_without_a_value_is_named_and_an_optional_one_is_advice(made: Shell) -> None:
    made.run("init", "smtp-url", *ROLES)
    verdict, problem, next_step = remarks(made, 0)["smtp-url"]
    assert (verdict, problem) == ("advice", "it has no value")
    assert next_step == "`email-gateway secrets set smtp-url --from-file FILE`"
    made.client.delete_secret(SecretId=f"{made.prefix}/encryption-key", ForceDeleteWithoutRecovery=True)
    made.client.create_secret(Name=f"{made.prefix}/encryption-key", KmsKeyId=made.alias)
    assert remarks(made, 1)["encryption-key"][:2] == ("act", "it has no value")


def test_a_kms_key_that_cannot_be_used_is_named(made: Shell) -> None:
    made.kms.disable_key(KeyId=made.kms.describe_key(KeyId=made.alias)["KeyMetadata"]["KeyId"])
    assert "enable-key" in remarks(made, 1)[made.alias][2]


def denied(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 400, {"__type": "AccessDeniedException", "message": "MARK is not authorized"}


@pytest.mark.parametrize(
    ("action", "permission", "code"),
    [
        ("DescribeSecret", "secretsmanager:DescribeSecret", 1),
        ("GetSecretValue", "secretsmanager:GetSecretValue", 1),
        ("GetResourcePolicy", "secretsmanager:GetResourcePolicy", 0),
        ("DescribeKey", "kms:DescribeKey", 0),
    ],
)
def test_what_the_caller_may_not_do_is_named_and_the_rest_is_looked_at(
    made: Shell, action: str, permission: str, code: int
) -> None:
    made.proxy.answers[action] = denied
    ran = made.run("verify", "--json")
    assert ran.code == code
    assert ran.told["permissions"][permission] == "denied"
    assert any(permission in remark["problem"] and permission in remark["next_step"] for remark in ran.told["remarks"])
    assert "allowed" in ran.told["permissions"].values()


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "ThrottlingException", "limits the rate"),
        (500, "InternalServiceError", "did not answer"),
        (400, "ExpiredTokenException", "aws sts get-caller-identity"),
        (400, "SomethingNew", "check AWS_ENDPOINT_URL"),
    ],
)
def test_any_other_error_of_aws_ends_it_with_the_next_step(
    made: Shell, monkeypatch: pytest.MonkeyPatch, status: int, code: str, advice: str
) -> None:
    made.proxy.answers["DescribeKey"] = lambda _: (status, {"__type": code, "message": "MARK"})
    ran = made.run("verify")
    assert ran.code == 1
    assert f"kms:DescribeKey on {made.alias} failed: {code}" in ran.err
    assert advice in ran.err
    assert json.dumps("MARK") not in ran.err


def test_an_answer_that_is_not_secrets_managers_is_no_secret(made: Shell) -> None:
    made.proxy.answers["DescribeSecret"] = lambda _: (200, {})
    ran = made.run("verify")
    assert ran.code == 1
    assert "was not answered by Secrets Manager" in ran.err
