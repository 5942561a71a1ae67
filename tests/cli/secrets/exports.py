"""An account worth a backup, and the keys that a backup is sealed for."""

from pathlib import Path
from typing import Any

import pyrage
from pyrage import x25519

from tests.cli.secrets.conftest import ROLES, Shell
from tests.moto_server import kept_secret

IDENTITY = x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
PASSPHRASE = "MARK correct horse battery staple"
PENDING_VALUE = "MARK-pending-9f0e6c4d-8a4b-4f8e-9c55-0123456789ab"


def fill(shell: Shell) -> None:
    """Make secrets with a history: current, the one before, an older one that is pinned, and a pending one."""
    assert shell.run("init", "smtp-url", *ROLES).code == 0
    for _ in range(2):
        assert shell.run("rotate", "encryption-key").code == 0
    pin_all(f"{shell.prefix}/encryption-key")
    assert shell.run("rotate", "admin-api-key").code == 0
    shell.client.put_secret_value(
        SecretId=f"{shell.prefix}/encryption-key", SecretString=PENDING_VALUE, VersionStages=["AWSPENDING"]
    )


def export(shell: Shell, folder: Path, name: str = "secrets.age") -> Path:
    """Export for RECIPIENT, whose secret key is then in key.txt beside it."""
    (folder / "key.txt").write_text(f"# created: today\n{IDENTITY}\n")
    file = folder / name
    ran = shell.run("export", str(file), "--recipient", RECIPIENT)
    assert ran.code == 0, ran
    return file


def keys(folder: Path) -> tuple[str, str]:
    return "--identity-file", str(folder / "key.txt")


def seal(document: bytes, file: Path) -> Path:
    """Write a file that RECIPIENT opens, whatever is in it."""
    file.write_bytes(pyrage.encrypt(document, [IDENTITY.to_public()]))
    return file


def live(shell: Shell) -> dict[str, dict[str, tuple[Any, list[str]]]]:
    """Every version that carries a label, with its value and labels, by secret and id."""
    return {
        name: {
            version_id: (version.get("secret_string"), sorted(version["version_stages"]))
            for version_id, version in secret.versions.items()
            if version["version_stages"]
        }
        for name, secret in shell.kept().items()
    }


def pin_all(full_name: str) -> None:
    """Give back what the emulator takes: of a version that stops being current it drops every label of ours."""
    for version_id, version in kept_secret(full_name).versions.items():
        if not any(label.startswith("EGW-") for label in version["version_stages"]):
            version["version_stages"].append(f"EGW-{version_id[:8]}")
