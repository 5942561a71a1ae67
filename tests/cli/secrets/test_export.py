"""`secrets export`: all that is live is in the file, nobody else reads it, and nothing of it is anywhere else."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pyrage import passphrase, x25519

from tests.cli.secrets.conftest import Shell
from tests.cli.secrets.exports import IDENTITY, PASSPHRASE, RECIPIENT, export, fill, live
from tests.cli.terminal import at_terminal
from tests.fault_proxy import Fault
from tests.moto_server import begin_rotation

CONTINUED = "another passphrase of many words"


def read(file: Path) -> Any:
    """Open a file with the library alone, as any other program of the format would."""
    return json.loads(pyrage.decrypt(file.read_bytes(), [IDENTITY]))


def test_every_live_version_is_in_it_under_its_id_with_its_labels(shell: Shell, tmp_path: Path) -> None:
    fill(shell)
    document = read(export(shell, tmp_path))
    held = {
        secret["name"]: {
            version["version_id"]: (version["value"], sorted(version["labels"])) for version in secret["versions"]
        }
        for secret in document["secrets"]
    }
    assert held == live(shell)
    assert len(held["encryption-key"]) == 4
    assert held["smtp-url"] == {}
    assert (document["format"], document["version"]) == ("email-gateway secrets", 1)
    assert (document["account_id"], document["region"], document["prefix"]) == (
        "123456789012",
        "us-east-1",
        shell.prefix,
    )
    (key,) = (secret for secret in document["secrets"] if secret["name"] == "encryption-key")
    assert key["tags"] == {"application": "email-gateway", "email-gateway:prefix": shell.prefix}
    assert key["kms_key_id"] == shell.alias
    assert key["description"].startswith("With the salt")
    assert all(version["created_at"] for version in key["versions"])


def test_only_its_owner_reads_the_file_and_no_value_stands_in_it_or_beside_it(shell: Shell, tmp_path: Path) -> None:
    fill(shell)
    before = os.umask(0)
    try:
        file = export(shell, tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.txt", "secrets.age"]
    for values in shell.values().values():
        assert not any(value.encode() in file.read_bytes() for value in values)


def test_an_export_says_what_it_holds_and_not_how_it_reads(shell: Shell, tmp_path: Path) -> None:
    fill(shell)
    ran = shell.run("export", str(tmp_path / "a.age"), "--recipient", RECIPIENT)
    assert "without a value" in ran.out
    assert f"from  account 123456789012, us-east-1, {shell.prefix}/" in ran.out
    assert f"sealed for {RECIPIENT}" in ran.out
    told = shell.run("export", str(tmp_path / "b.age"), "--recipient", RECIPIENT, "--json").told
    listed = {secret["name"]: [each["version_id"] for each in secret["versions"]] for secret in told["secrets"]}
    assert listed == {name: list(versions) for name, versions in live(shell).items()}
    assert told["left_out"] == []


def test_each_of_several_public_keys_opens_it(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    others = [x25519.Identity.generate() for _ in range(2)]
    keys = tmp_path / "recipients.txt"
    keys.write_text("# two of the team\n\n" + "".join(f"{each.to_public()}\n" for each in others))
    file = tmp_path / "secrets.age"
    assert shell.run("export", str(file), "--recipient", RECIPIENT, "--recipients-file", str(keys)).code == 0
    for identity in (IDENTITY, *others):
        assert pyrage.decrypt(file.read_bytes(), [identity]).startswith(b"{")


def test_a_passphrase_from_a_file_or_a_pipe_opens_it(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\r\nand a second line, which does not count\n")
    file = tmp_path / "a.age"
    assert shell.run("export", str(file), "--passphrase-file", str(tmp_path / "passphrase")).code == 0
    assert passphrase.decrypt(file.read_bytes(), PASSPHRASE).startswith(b"{")
    piped = tmp_path / "b.age"
    assert shell.run("export", str(piped), "--passphrase-file", "-", stdin=f"{PASSPHRASE}\n").code == 0
    assert passphrase.decrypt(piped.read_bytes(), PASSPHRASE).startswith(b"{")


def test_a_passphrase_is_asked_for_twice_and_not_shown(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = tmp_path / "secrets.age"
    answers = [
        ("Passphrase: ", PASSPHRASE),
        ("again: ", CONTINUED),
        ("Passphrase: ", PASSPHRASE),
        ("again: ", PASSPHRASE),
    ]
    code, shown = at_terminal("secrets", "export", str(file), says=b"", answers=answers, **shell.environ)
    assert code == 0, shown
    assert "do not match" in shown
    assert PASSPHRASE not in shown
    assert CONTINUED not in shown
    assert passphrase.decrypt(file.read_bytes(), PASSPHRASE).startswith(b"{")


def test_a_file_that_is_there_is_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = tmp_path / "secrets.age"
    for make in (lambda: file.write_text("the export of last year"), lambda: file.symlink_to("nowhere")):
        make()
        before = file.lstat()
        ran = shell.run("export", str(file), "--recipient", RECIPIENT)
        assert ran.code == 1
        assert "is there already" in ran.err
        assert file.lstat() == before
        file.unlink()


def test_a_file_that_somebody_makes_meanwhile_is_not_overwritten_either(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = tmp_path / "secrets.age"

    def come_first(action: str) -> None:
        if action == "GetSecretValue":
            file.write_text("another one")

    shell.proxy.after = come_first
    ran = shell.run("export", str(file), "--recipient", RECIPIENT)
    assert ran.code == 1
    assert "is there already" in ran.err
    assert file.read_text() == "another one"


def test_nothing_is_left_of_a_file_that_did_not_fit(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    file = tmp_path / "secrets.age"
    command = ["prlimit", "--fsize=100", "--", sys.executable, "-P", "-m", "email_gateway.cli"]
    done = subprocess.run(
        [*command, "secrets", "export", str(file), "--recipient", RECIPIENT],
        env={"PATH": os.environ["PATH"], **shell.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "nothing is left of it" in done.stderr
    assert not file.exists()


def test_a_folder_that_is_not_there_is_named(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    ran = shell.run("export", str(tmp_path / "no" / "secrets.age"), "--recipient", RECIPIENT)
    assert ran.code == 1
    assert "cannot write" in ran.err


WRONG_KEYS = {
    "malformed": ("age1nonsense", "recipient 1 is no age public key"),
    "secret": (str(IDENTITY), "recipient 1 is a secret key"),
    "cut": (RECIPIENT[:-1], "recipient 1 is no age public key"),
}


@pytest.mark.parametrize(("text", "said"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_what_is_no_public_key_is_refused_before_anything_is_read(
    shell: Shell, tmp_path: Path, text: str, said: str
) -> None:
    file, keys = tmp_path / "secrets.age", tmp_path / "recipients.txt"
    ran = shell.run("export", str(file), "--recipient", text)
    assert ran.code == 1
    assert said in ran.err
    keys.write_text(f"{RECIPIENT}\n{text}\n")
    from_file = shell.run("export", str(file), "--recipients-file", str(keys))
    assert from_file.code == 1
    assert said.replace("recipient 1", f"{keys}, line 2,") in from_file.err
    assert text not in ran.err + from_file.err
    assert not file.exists()
    assert shell.proxy.requests == []


def test_a_file_without_public_keys_and_a_short_passphrase_are_refused(shell: Shell, tmp_path: Path) -> None:
    file, given = tmp_path / "secrets.age", tmp_path / "given"
    given.write_text("# nobody\n")
    assert "holds no public key" in shell.run("export", str(file), "--recipients-file", str(given)).err
    given.write_text("too short\n")
    short = shell.run("export", str(file), "--passphrase-file", str(given))
    assert "must have at least 16 characters" in short.err
    given.write_text("\n")
    assert "no passphrase on its first line" in shell.run("export", str(file), "--passphrase-file", str(given)).err
    nobody = shell.run("export", str(file))
    assert nobody.code == 1
    assert "there is no terminal" in nobody.err
    assert "--recipient" in nobody.err
    both = shell.run("export", str(file), "--recipient", RECIPIENT, "--passphrase-file", str(given))
    assert both.code == 2
    assert not file.exists()


def test_without_a_critical_secret_there_is_no_backup(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "secrets.age"
    ran = shell.run("export", str(file), "--recipient", RECIPIENT)
    assert ran.code == 1
    assert f"{shell.prefix}/encryption-key has no value" in ran.err
    shell.run("init")
    shell.client.delete_secret(SecretId=f"{shell.prefix}/admin-api-key", RecoveryWindowInDays=7)
    deleted = shell.run("export", str(file), "--recipient", RECIPIENT)
    assert deleted.code == 1
    assert "restore-secret" in deleted.err
    assert not file.exists()


def test_versions_that_hold_nothing_to_keep_are_left_out_and_named(shell: Shell, tmp_path: Path) -> None:
    shell.run("init", "rotation-key")
    binary = shell.client.put_secret_value(SecretId=f"{shell.prefix}/rotation-key", SecretBinary=b"\0\1")["VersionId"]
    empty = begin_rotation(f"{shell.prefix}/encryption-key")
    ran = shell.run("export", str(tmp_path / "a.age"), "--recipient", RECIPIENT)
    assert ran.code == 0
    assert f"left out: version {binary} of rotation-key (AWSCURRENT), since it is binary" in ran.out
    assert f"left out: version {empty} of encryption-key (AWSPENDING), since it has no value yet" in ran.out


def test_an_answer_that_is_not_secrets_managers_is_no_export(shell: Shell, tmp_path: Path) -> None:
    shell.run("init")
    shell.proxy.faults["encryption-salt"] = Fault.HTML
    assert "was not answered by Secrets Manager" in shell.run("export", "a.age", "--recipient", RECIPIENT).err
    shell.proxy.faults.clear()
    shell.proxy.answers["GetSecretValue"] = lambda _: (200, {"VersionId": "another"})
    ran = shell.run("export", "a.age", "--recipient", RECIPIENT)
    assert ran.code == 1
    assert "GetSecretValue was not answered by Secrets Manager" in ran.err
    assert not Path("a.age").exists()
