"""`secrets restore`: the same versions under the same ids and labels, anywhere, however often it died; nothing overwritten."""

import json
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.backends import get_backend
from pyrage import x25519

from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import SecretsManagerSource
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.vault.boot import open_roots
from email_gateway.vault.root_source import SecretsRoots
from tests.cli.secrets.conftest import Shell
from tests.cli.secrets.exports import IDENTITY, PASSPHRASE, export, fill, keys, live, pin_all, seal
from tests.moto_server import kept_secret, settle_current
from tests.plugins.secrets_manager import PATIENT, Aws

MAKING = ("CreateKey", "CreateAlias", "CreateSecret", "PutSecretValue", "UpdateSecretVersionStage")
OTHER = "MARK-other-7d1f0e6c-8a4b-4f8e-9c55-0123456789ab"


@pytest.fixture
def exported(shell: Shell, tmp_path: Path) -> Path:
    """An export of an account with a history."""
    fill(shell)
    return export(shell, tmp_path)


@pytest.fixture
def elsewhere(shell: Shell, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell under another prefix, where nothing is yet; the environment is its own from now on."""
    return enter(Shell(shell.client, shell.kms, shell.proxy, shell.url), monkeypatch)


def enter(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("SECRETS_PREFIX", shell.prefix)
    return shell


def states(told: Any) -> set[str]:
    return {step["state"] for step in told["steps"]}


def test_another_prefix_gets_every_version_under_its_id_with_its_labels(
    shell: Shell, elsewhere: Shell, exported: Path, tmp_path: Path
) -> None:
    ran = elsewhere.run("restore", str(exported), *keys(tmp_path))
    assert ran.code == 0, ran
    assert "next:  `email-gateway secrets init`" in ran.out
    assert live(elsewhere) == live(shell)
    (kms_key, tags, *_) = elsewhere.state()["secrets"]["encryption-key"]
    assert kms_key == elsewhere.alias
    assert elsewhere.prefix in str(tags)
    assert shell.prefix not in str(tags)


def test_run_again_it_finds_everything_there(elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    assert elsewhere.run("restore", str(exported), *keys(tmp_path)).code == 0
    before = live(elsewhere)
    again = elsewhere.run("restore", str(exported), *keys(tmp_path), "--json")
    assert again.code == 0
    assert states(again.told) == {"there"}
    assert live(elsewhere) == before
    # It also goes with making policies, which changes no value.
    assert elsewhere.run("init").code == 0
    assert live(elsewhere) == before


def test_another_account_and_region_get_them_too(
    shell: Shell, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id, region = "111122223333", "eu-central-1"
    session: Any = boto3.session.Session("testing", "testing", region_name="us-east-1")
    role = session.client("sts", endpoint_url=shell.url).assume_role(
        RoleArn=f"arn:aws:iam::{account_id}:role/admin", RoleSessionName="restore"
    )["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", role["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", role["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", role["SessionToken"])
    monkeypatch.setenv("AWS_REGION", region)
    assert shell.run("restore", str(exported), *keys(tmp_path)).code == 0
    there = get_backend("secretsmanager")[account_id][region].secrets
    versions = {
        name: {version_id: sorted(version["version_stages"]) for version_id, version in secret.versions.items()}
        for secret in there.values()
        if (name := secret.name.removeprefix(f"{shell.prefix}/")) != secret.name
    }
    assert versions == {name: {one: labels for one, (_, labels) in each.items()} for name, each in live(shell).items()}


def test_killed_after_any_step_and_run_again_it_ends_in_the_same_state(
    shell: Shell, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    while True:
        count += 1
        account = enter(Shell(shell.client, shell.kms, shell.proxy, shell.url), monkeypatch)
        was_killed = end_after(account, count, exported, tmp_path)
        assert account.run("restore", str(exported), *keys(tmp_path)).code == 0
        assert live(account) == live(shell)
        assert account.state()["keys"] == 1
        if not was_killed:
            break
    assert count > len(MAKING) + len(shell.kept())  # it was killed at each


def end_after(account: Shell, count: int, exported: Path, folder: Path) -> bool:
    """Run it and kill it when AWS has done so many steps; tell whether there were so many."""
    ran, _ = account.run_killed_after(count, MAKING, "restore", str(exported), *keys(folder))
    assert ran.code in (0, -signal.SIGKILL)
    return ran.code != 0


def test_a_plan_changes_nothing(shell: Shell, elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    ran = elsewhere.run("restore", str(exported), *keys(tmp_path), "--dry-run")
    assert ran.code == 0
    assert "to be made" in ran.out
    assert "nothing was changed: this is the plan" in ran.out
    planned = elsewhere.run("restore", str(exported), *keys(tmp_path), "--dry-run", "--json").told
    assert planned["prefix"] == elsewhere.prefix
    assert states(planned) == {"to be made"}
    assert elsewhere.kept() == {}
    assert elsewhere.state()["keys"] == 0


def test_labels_that_have_moved_since_are_put_back(shell: Shell, exported: Path, tmp_path: Path) -> None:
    before = live(shell)
    assert shell.run("rollback", "admin-api-key").code == 0
    (current, _) = shell.labelled("admin-api-key", "AWSCURRENT")
    shell.client.update_secret_version_stage(
        SecretId=f"{shell.prefix}/admin-api-key", VersionStage="theirs", MoveToVersionId=current
    )
    assert live(shell) != before
    planned = shell.run("restore", str(exported), *keys(tmp_path), "--dry-run", "--json").told
    assert [step["what"] for step in planned["steps"] if step["state"] == "to be made"] == ["labels"]
    assert shell.run("restore", str(exported), *keys(tmp_path)).code == 0
    assert live(shell) == before


def test_a_version_that_has_lost_its_labels_gets_them_back(shell: Shell, exported: Path, tmp_path: Path) -> None:
    before = live(shell)
    (previous, _) = shell.labelled("encryption-key", "AWSPREVIOUS")
    kept_secret(f"{shell.prefix}/encryption-key").versions[previous]["version_stages"].clear()
    assert shell.run("restore", str(exported), *keys(tmp_path)).code == 0
    assert live(shell) == before


def test_a_version_that_is_gone_is_put_again_and_takes_nothing_from_the_current_one(
    shell: Shell, exported: Path, tmp_path: Path
) -> None:
    before = live(shell)
    (previous, _) = shell.labelled("encryption-key", "AWSPREVIOUS")
    del kept_secret(f"{shell.prefix}/encryption-key").versions[previous]
    assert shell.run("restore", str(exported), *keys(tmp_path)).code == 0
    assert live(shell) == before
    puts = [request["VersionStages"] for request in shell.proxy.requests if "VersionStages" in request]
    assert "AWSCURRENT" not in puts[-1]


def test_a_secret_without_a_value_is_filled(shell: Shell, elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    elsewhere.client.create_secret(Name=f"{elsewhere.prefix}/encryption-key", KmsKeyId=elsewhere.alias)
    assert elsewhere.run("restore", str(exported), *keys(tmp_path)).code == 0
    assert live(elsewhere) == live(shell)


def refused(shell: Shell, file: Path, folder: Path) -> str:
    """Run it where something stands in the way: nothing may change."""
    before, state = live(shell), shell.state()
    ran = shell.run("restore", str(file), *keys(folder))
    assert ran.code == 1
    assert "nothing was changed" in ran.out
    told = shell.run("restore", str(file), *keys(folder), "--json")
    assert told.code == 1
    assert "made" not in states(told.told)
    assert (live(shell), shell.state()) == (before, state)
    return ran.out


def test_secrets_with_values_of_their_own_are_left_alone(elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    elsewhere.run("init")
    (theirs, _) = elsewhere.labelled("encryption-key", "AWSCURRENT")
    said = refused(elsewhere, exported, tmp_path)
    assert f"version {theirs} (AWSCURRENT) is not in the export" in said
    assert "another SECRETS_PREFIX" in said


@pytest.mark.parametrize("label", ["AWSCURRENT", "AWSPENDING"])
def test_another_value_under_the_same_id_is_named_and_stays(
    shell: Shell, elsewhere: Shell, exported: Path, tmp_path: Path, label: str
) -> None:
    (version_id, _) = shell.labelled("encryption-key", label)
    elsewhere.client.create_secret(
        Name=f"{elsewhere.prefix}/encryption-key",
        SecretString=OTHER,
        ClientRequestToken=version_id,
        KmsKeyId=elsewhere.alias,
        Tags=[{"Key": "application", "Value": "theirs"}],
    )
    kept_secret(f"{elsewhere.prefix}/encryption-key").versions[version_id]["version_stages"] = [label]
    assert f"{version_id} has another value here" in refused(elsewhere, exported, tmp_path)


def test_a_secret_that_is_to_be_deleted_is_left_to_its_owner(shell: Shell, exported: Path, tmp_path: Path) -> None:
    shell.client.delete_secret(SecretId=f"{shell.prefix}/encryption-salt", RecoveryWindowInDays=7)
    assert "restore-secret" in refused(shell, exported, tmp_path)


def test_a_kms_key_that_cannot_be_used_is_named(elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    elsewhere.run("init", "rotation-key", "--dry-run")
    key = elsewhere.kms.create_key(Description="theirs")["KeyMetadata"]["KeyId"]
    elsewhere.kms.create_alias(AliasName=elsewhere.alias, TargetKeyId=key)
    elsewhere.kms.disable_key(KeyId=key)
    ran = elsewhere.run("restore", str(exported), *keys(tmp_path))
    assert ran.code == 1
    assert "enable-key" in ran.out
    assert elsewhere.kept() == {}


def test_a_value_that_somebody_puts_meanwhile_is_not_followed_by_ours(
    elsewhere: Shell, exported: Path, tmp_path: Path
) -> None:
    def interfere(action: str) -> None:
        if action == "CreateSecret":
            elsewhere.proxy.after = lambda _: None
            elsewhere.client.put_secret_value(SecretId=f"{elsewhere.prefix}/encryption-key", SecretString=OTHER)

    elsewhere.proxy.after = interfere
    ran = elsewhere.run("restore", str(exported), *keys(tmp_path))
    assert ran.code == 1
    assert "is not in the export" in ran.err
    assert "made" in ran.out  # what was made until then
    assert elsewhere.labelled("encryption-key", "AWSCURRENT")[1] == OTHER


def test_an_answer_without_the_deed_is_noticed(elsewhere: Shell, exported: Path, tmp_path: Path) -> None:
    elsewhere.proxy.answers["UpdateSecretVersionStage"] = lambda _: (200, {})
    ran = elsewhere.run("restore", str(exported), *keys(tmp_path))
    assert ran.code == 1
    assert f"not all is as it was exported: labels {elsewhere.prefix}/encryption-key" in ran.err
    elsewhere.proxy.answers.clear()
    settle_current(f"{elsewhere.prefix}/encryption-key")
    assert elsewhere.run("restore", str(exported), *keys(tmp_path)).code == 0


@pytest.mark.anyio
async def test_a_gateway_finds_its_root_keys_again_by_their_ids(
    aws: Aws, shell_of_fleet: Shell, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):  # the last time nobody looks: the active root is that of the version before
        service = await SecretsService.start(
            aws.settings(), source=await SecretsManagerSource.open(aws.settings(), PATIENT)
        )
        await open_roots(db, SecretsRoots(service))
        await service.close()
        assert shell_of_fleet.run("rotate", "encryption-key").code == 0
    pin_all(f"{aws.prefix}/encryption-key")
    file = export(shell_of_fleet, tmp_path)
    other = Aws(aws.client, aws.proxy, aws.url)
    monkeypatch.setenv("SECRETS_PREFIX", other.prefix)
    assert shell_of_fleet.run("restore", str(file), *keys(tmp_path)).code == 0
    service = await SecretsService.start(
        other.settings(), source=await SecretsManagerSource.open(other.settings(), PATIENT)
    )
    held = await open_roots(db, SecretsRoots(service))
    roots = await store.list_roots(db)
    for root in roots:
        assert (await held.obtain(root)).root_id == root.root_id
    assert len(roots) == 4
    await service.close()


def test_a_passphrase_opens_it_or_says_that_it_does_not(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    right, wrong, file = tmp_path / "right", tmp_path / "wrong", tmp_path / "secrets.age"
    right.write_text(f"{PASSPHRASE}\n")
    wrong.write_text("MARK another passphrase of many words\n")
    assert shell.run("export", str(file), "--passphrase-file", str(right)).code == 0
    assert shell.run("restore", str(file), "--passphrase-file", str(right)).code == 0
    for arguments, said in (
        (("--passphrase-file", str(wrong)), "this passphrase does not open the file"),
        ((), "there is no terminal to ask for a passphrase"),
        (("--identity-file", str(right)), "opens with a passphrase"),
    ):
        ran = shell.run("restore", str(file), *arguments)
        assert ran.code == 1
        assert said in ran.err
    file.write_bytes(file.read_bytes()[:-3])
    cut = shell.run("restore", str(file), "--passphrase-file", str(right))
    assert cut.code == 1
    assert "cut short or changed" in cut.err


def test_a_secret_key_that_is_not_the_one_is_named(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = export(shell, tmp_path)
    key = tmp_path / "another.txt"
    for text, said in (
        (str(x25519.Identity.generate()), "none of the secret keys given opens the file"),
        ("# nothing\n", "holds no age secret key"),
        ("AGE-SECRET-KEY-1NONSENSE", "has no age secret key in line 1"),
        (f"{IDENTITY}\n-----BEGIN PRIVATE KEY-----", "has no age secret key in line 2"),
    ):
        key.write_text(text)
        ran = shell.run("restore", str(file), "--identity-file", str(key))
        assert ran.code == 1
        assert said in ran.err
        assert text not in ran.err
    assert "give it with --identity-file" in shell.run("restore", str(file)).err


def test_what_is_no_export_is_refused_by_name(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = export(shell, tmp_path)
    whole, odd = file.read_bytes(), tmp_path / "odd.age"
    for raw, said in (
        (b"", "no age file"),
        (b"PK\x03\x04", "no age file"),
        (whole[:100], "cut short or changed"),
        (whole[:-1], "cut short or changed"),
        (whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:], "cut short or changed"),
    ):
        odd.write_bytes(raw)
        ran = shell.run("restore", str(odd), *keys(tmp_path))
        assert ran.code == 1
        assert said in ran.err
        assert "next:" in ran.err
    foreign = {"format": "email-gateway secrets", "version": 2, "all": "is otherwise"}
    ran = shell.run("restore", str(seal(json.dumps(foreign).encode(), odd)), *keys(tmp_path))
    assert ran.code == 1
    assert "a document of version 2, and this release reads version 1" in ran.err
    assert "cannot read" in shell.run("restore", str(tmp_path / "none.age"), *keys(tmp_path)).err


def test_a_file_that_is_no_export_by_its_size_is_not_read(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text(str(IDENTITY))
    file = tmp_path / "disk.img"
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    ran = shell.run("restore", str(file), *keys(tmp_path))
    assert ran.code == 1
    assert "too long for an export" in ran.err
