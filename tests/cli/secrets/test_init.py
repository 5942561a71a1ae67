"""`secrets init`: whatever was there before, and however often it died, there is one end state and nothing is lost."""

import contextlib
import json
import os
import pty
import signal
from typing import Any

import pytest

from email_gateway.secrets.secret import SECRETS
from tests.cli.secrets.conftest import ROLES, Shell
from tests.moto_server import begin_rotation

CRITICAL = ("encryption-key", "encryption-salt", "admin-api-key")
MAKING = ("CreateKey", "CreateAlias", "CreateSecret", "PutSecretValue", "TagResource", "PutResourcePolicy")
# On an empty account, and over one that has a secret without a value and without tags.
STEPS = ["CreateKey", "CreateAlias", *["CreateSecret", "PutResourcePolicy"] * 3]
STEPS_HALF_MADE = ["CreateKey", "CreateAlias", "PutSecretValue", "TagResource", "PutResourcePolicy",
                   *["CreateSecret", "PutResourcePolicy"] * 2]  # fmt: skip


def make_complete(shell: Shell) -> dict[str, Any]:
    """Run it to its end, twice, and return what is there then."""
    assert shell.run("init", *ROLES).code == 0
    values, state = shell.values(), shell.state()
    again = shell.run("init", *ROLES, "--json")
    assert again.code == 0
    assert {step["state"] for step in again.told["steps"]} == {"there"}
    assert (shell.values(), shell.state()) == (values, state)
    return state


def make_half(shell: Shell) -> None:
    shell.client.create_secret(Name=f"{shell.prefix}/encryption-key", KmsKeyId=shell.alias)


def test_an_empty_account_gets_a_key_an_alias_and_three_secrets_that_the_gateway_takes(shell: Shell) -> None:
    state = make_complete(shell)
    assert sorted(state["secrets"]) == sorted(CRITICAL)
    assert state["keys"] == 1
    assert state["alias points at ours"]
    values = shell.values()
    for known in SECRETS:
        for value in values.get(known.name, []):
            assert known.read_stored(value) == value
    assert len({value for each in values.values() for value in each}) == 3
    assert {kms_key for kms_key, *_ in state["secrets"].values()} == {shell.alias}
    assert shell.run("verify").code == 0


@pytest.mark.parametrize("half_made", [False, True], ids=["empty", "half made"])
def test_killed_after_any_step_and_run_again_it_ends_in_the_same_state(shell: Shell, half_made: bool) -> None:
    steps = STEPS_HALF_MADE if half_made else STEPS
    ends = [end_of_a_run_killed_after(shell, count, steps, half_made=half_made) for count in range(1, len(steps) + 1)]
    assert all(end == ends[0] for end in ends)


def end_of_a_run_killed_after(shell: Shell, count: int, steps: list[str], *, half_made: bool) -> str:
    """Kill a run in an account of its own when so many steps are done, complete it, and return what is there."""
    account = Shell(shell.client, shell.kms, shell.proxy, shell.url)
    if half_made:
        make_half(account)
    ran, done = account.run_killed_after(count, MAKING, "init", *ROLES)
    assert ran.code == -signal.SIGKILL
    assert done == steps[:count]
    before = account.values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRETS_PREFIX", account.prefix)
        state = make_complete(account)
    # What the killed run had stored is what is there.
    assert all(account.values()[name] == values for name, values in before.items() if values)
    return json.dumps(state).replace(account.prefix, "P")


def test_a_plan_changes_nothing(shell: Shell) -> None:
    told = shell.run("init", "smtp-url", *ROLES, "--dry-run")
    assert told.code == 0
    assert "to be made" in told.out
    assert "nothing was changed" in told.out
    assert shell.kept() == {}
    assert shell.state()["keys"] == 0
    planned = shell.run("init", "smtp-url", *ROLES, "--dry-run", "--json").told
    assert planned["dry_run"] is True
    assert [step["what"] for step in planned["steps"]] == [
        "KMS key", "KMS alias", *["secret", "policy"] * 3, "secret", "value", "policy",
    ]  # fmt: skip
    shell.run("init", *ROLES)
    before = (shell.state(), shell.values())
    assert shell.run("init", "rotation-key", *ROLES, "--dry-run").code == 0
    assert (shell.state(), shell.values()) == before


def test_nothing_that_is_there_is_overwritten(shell: Shell) -> None:
    theirs = "MARK-4d1f0e6c-8a4b-4f8e-9c55-0123456789ab"
    other = shell.kms.create_key(Description="theirs")["KeyMetadata"]["KeyId"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    shell.client.create_secret(
        Name=f"{shell.prefix}/encryption-key",
        SecretString=theirs,
        KmsKeyId=other,
        Tags=[{"Key": "application", "Value": "theirs"}],
    )
    shell.client.put_resource_policy(SecretId=f"{shell.prefix}/encryption-key", ResourcePolicy=policy)
    ran = shell.run("init", *ROLES, "--json")
    assert ran.code == 1
    differing = [(step["what"], step["note"]) for step in ran.told["steps"] if step["state"] == "differs"]
    assert [what for what, _ in differing] == ["secret", "policy"]
    assert f"update-secret --secret-id {shell.prefix}/encryption-key --kms-key-id {shell.alias}" in differing[0][1]
    assert shell.values()["encryption-key"] == [theirs]
    kms_key, tags, _, kept = shell.state()["secrets"]["encryption-key"]
    assert kms_key == other
    assert kept == policy
    assert any("theirs" in tag for tag in tags)
    assert len(shell.values()) == 3  # the others are made


def test_an_alias_of_a_key_that_cannot_be_used_is_left_to_its_owner(shell: Shell) -> None:
    shell.run("init")
    key = shell.kms.describe_key(KeyId=shell.alias)["KeyMetadata"]["KeyId"]
    shell.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    ran = shell.run("init", "rotation-key")
    assert ran.code == 1
    assert "cancel-key-deletion" in ran.out
    assert "waits" in ran.out
    assert "rotation-key" not in shell.kept()
    shell.kms.cancel_key_deletion(KeyId=key)
    disabled = shell.run("init", "rotation-key")
    assert disabled.code == 1
    assert "enable-key" in disabled.out
    shell.kms.enable_key(KeyId=key)
    assert shell.run("init", "rotation-key").code == 0
    assert len(shell.values()["rotation-key"]) == 1


def test_a_secret_that_is_to_be_deleted_is_not_made_again(shell: Shell) -> None:
    shell.run("init")
    before = shell.values()
    shell.client.delete_secret(SecretId=f"{shell.prefix}/encryption-key", RecoveryWindowInDays=7)
    ran = shell.run("init")
    assert ran.code == 1
    assert "restore-secret" in ran.out
    assert shell.values() == before
    shell.client.restore_secret(SecretId=f"{shell.prefix}/encryption-key")
    assert shell.run("init").code == 0
    assert shell.values() == before


def test_a_rotation_that_began_on_a_secret_without_a_value_is_left_alone(shell: Shell) -> None:
    shell.client.create_secret(Name=f"{shell.prefix}/encryption-key", KmsKeyId=shell.alias)
    begin_rotation(f"{shell.prefix}/encryption-key")
    ran = shell.run("init")
    assert ran.code == 1
    assert "finish or abandon it" in ran.out
    assert shell.values()["encryption-key"] == []


def test_optional_secrets_are_made_when_asked_for_and_urls_wait_for_their_owner(shell: Shell) -> None:
    ran = shell.run("init", "rotation-key", "smtp-url", *ROLES)
    assert ran.code == 0
    assert f"value {shell.prefix}/smtp-url: `email-gateway secrets set smtp-url --from-file FILE`" in ran.out
    values = shell.values()
    assert len(values["rotation-key"]) == 1
    assert values["smtp-url"] == []
    assert "yours to do" in shell.run("init", "rotation-key", "smtp-url", *ROLES).out


def test_only_two_roles_may_delete_and_write_and_the_policy_can_always_be_mended(shell: Shell) -> None:
    shell.run("init", "database-url", *ROLES)
    policies = {name: json.loads(kept) for name, (*_, kept) in shell.state()["secrets"].items()}
    for name, policy in policies.items():
        denied = {action for statement in policy["Statement"] for action in statement["Action"]}
        assert "secretsmanager:DeleteSecret" in denied
        assert ("secretsmanager:PutSecretValue" in denied) == (name != "database-url")  # RDS's rotation writes that
        assert not any("ResourcePolicy" in action or "*" in action for action in denied)
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Deny"
            assert statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"] == sorted(ROLES[1::2])


@pytest.mark.parametrize(
    "arguments",
    [["--administrator", ROLES[1]], ["--rotation", ROLES[1]], ["no-such-secret"]],
)
def test_half_a_wish_is_wrong_usage(shell: Shell, arguments: list[str]) -> None:
    assert shell.run("init", *arguments).code == 2
    assert shell.kept() == {}


def test_what_is_no_role_is_refused_before_anything_is_made(shell: Shell) -> None:
    session = "arn:aws:sts::123456789012:assumed-role/admin/me"
    ran = shell.run("init", "--administrator", session, "--rotation", ROLES[3])
    assert ran.code == 1
    assert "arn:aws:iam::123456789012:role/NAME" in ran.err
    assert shell.state()["keys"] == 0


def test_a_refusal_says_what_was_made_and_what_to_allow(shell: Shell) -> None:
    shell.proxy.answers["PutResourcePolicy"] = lambda _: (400, {"__type": "AccessDeniedException", "message": "MARK"})
    ran = shell.run("init", *ROLES)
    assert ran.code == 1
    assert f"secretsmanager:PutResourcePolicy on {shell.prefix}/encryption-key failed: AccessDeniedException" in ran.err
    assert "next:  allow secretsmanager:PutResourcePolicy to this role" in ran.err
    assert "made" in ran.out
    del shell.proxy.answers["PutResourcePolicy"]
    assert shell.run("init", *ROLES).code == 0


def test_what_another_run_made_meanwhile_is_left_as_it_is(shell: Shell) -> None:
    def create_first(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 400, {"__type": "ResourceExistsException", "message": "made a moment ago"}

    shell.proxy.answers["CreateSecret"] = create_first
    assert shell.run("init").code == 0
    assert shell.kept() == {}


def test_without_credentials_the_shell_is_told_to_get_some(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ran = shell.run("init", "--dry-run")
    assert ran.code == 1
    assert "NoCredentialsError" in ran.err
    assert "AWS_PROFILE" in ran.err


def test_without_a_region_it_is_a_matter_of_configuration(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    ran = shell.run("verify")
    assert ran.code == 78
    assert "AWS_REGION" in ran.err


def test_a_terminal_sees_that_something_goes_on(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    process = shell.start("init", stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # what reading says when the other end has closed
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert shell.finish(process).code == 0
    assert b"looking" in shown
    assert f"making: secret {shell.prefix}/admin-api-key".encode() in shown
    assert not any(value.encode() in shown for values in shell.values().values() for value in values)
