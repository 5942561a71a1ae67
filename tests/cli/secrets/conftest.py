"""An operator's shell on an account of this test's own: real boto3, moto's server, and a proxy that can fail."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from email_gateway.cli import main
from tests.api.conftest import rotating  # noqa: F401  (a fixture)
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.moto_server import AWS_ENVIRONMENT, REGION
from tests.plugins.secrets_manager import Aws

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

ADMINISTRATOR = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/email-gateway-admin"
ROTATION = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/email-gateway-rotation"
ROLES = ("--administrator", ADMINISTRATOR, "--rotation", ROTATION)


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs commands on the secrets under `prefix`; every output is searched for their values."""

    client: "SecretsManagerClient"
    kms: Any
    proxy: FaultProxy
    url: str
    prefix: str = field(default_factory=lambda: f"shell-{uuid.uuid4().hex[:12]}")

    @property
    def environ(self) -> dict[str, str]:
        return {
            **AWS_ENVIRONMENT,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "SECRETS_PREFIX": self.prefix,
        }

    @property
    def alias(self) -> str:
        return f"alias/{self.prefix}"

    def run(self, *arguments: str, stdin: str = "", command: str = "secrets") -> Ran:
        """Run a command in this process, as its `main` is run by a shell."""
        out, err = io.StringIO(), io.StringIO()
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        code: Any = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main([command, *arguments])
                except SystemExit as ended:
                    code = ended.code
        finally:
            sys.stdin = before
        return self._checked(Ran(int(code or 0), out.getvalue(), err.getvalue()))

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "email_gateway.cli", "secrets", *arguments],
            env={"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", **self.environ},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Ran:
        out, err = process.communicate(timeout=60)
        return self._checked(Ran(process.returncode, out, err or ""))

    def run_killed_after(self, count: int, making: Container[str], *arguments: str) -> tuple[Ran, list[str]]:
        """Start a command and kill it when AWS has done so many steps, which nobody has heard of then; return the steps."""
        running: list[subprocess.Popen[str]] = []
        done: list[str] = []

        def kill(action: str) -> None:
            if action in making:
                done.append(action)
                if len(done) == count:
                    running[0].send_signal(signal.SIGKILL)

        self.proxy.after = kill
        running.append(self.start(*arguments))
        ran = self.finish(running[0])
        self.proxy.after = lambda _: None
        return ran, done

    def kept(self) -> dict[str, Any]:
        """The secrets as the server holds them, by name without prefix."""
        secrets = get_backend("secretsmanager")[DEFAULT_ACCOUNT_ID][REGION].secrets
        return {
            secret.name.removeprefix(f"{self.prefix}/"): secret
            for secret in secrets.values()
            if secret.name.startswith(f"{self.prefix}/")
        }

    def values(self) -> dict[str, list[str]]:
        """Every value of every version, by name."""
        return {
            name: [version["secret_string"] for version in secret.versions.values() if version.get("secret_string")]
            for name, secret in self.kept().items()
        }

    def labelled(self, name: str, label: str) -> tuple[str, str]:
        """The VersionId and the value that carry a label."""
        answer = self.client.get_secret_value(SecretId=f"{self.prefix}/{name}", VersionStage=label)
        return answer["VersionId"], answer["SecretString"]

    def state(self) -> dict[str, Any]:
        """All of the account that is this prefix's, without what a second making would make otherwise."""
        described = {name: self.client.describe_secret(SecretId=f"{self.prefix}/{name}") for name in self.kept()}
        policies = {
            name: self.client.get_resource_policy(SecretId=f"{self.prefix}/{name}").get("ResourcePolicy")
            for name in self.kept()
        }
        keys = [key["KeyId"] for key in self.kms.list_keys(Limit=1000)["Keys"]]
        ours = [key for key in keys if self.prefix in str(self.kms.list_resource_tags(KeyId=key)["Tags"])]
        aliases = [each for each in self.kms.list_aliases()["Aliases"] if each["AliasName"] == self.alias]
        return {
            "secrets": {
                name: (
                    each["KmsKeyId"],
                    sorted(map(str, each["Tags"])),
                    sorted(map(str, each.get("VersionIdsToStages", {}).values())),
                    policies[name],
                )
                for name, each in described.items()
            },
            "keys": len(ours),
            "alias points at ours": [each["TargetKeyId"] for each in aliases] == ours,
        }

    def _checked(self, ran: Ran) -> Ran:
        for values in self.values().values():
            for value in values:
                assert value not in ran.out
                assert value not in ran.err
        assert "MARK" not in ran.out + ran.err
        return ran


def kms_client(url: str) -> Any:
    session: Any = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    )
    return session.client("kms", endpoint_url=url)


@pytest.fixture(scope="session")
def kms(moto_url: str) -> Any:
    return kms_client(moto_url)


@pytest.fixture
def shell(
    moto_url: str, operator: "SecretsManagerClient", kms: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Shell]:
    """A shell on an empty account."""
    with fault_proxy(moto_url) as (proxy, url):
        shell = Shell(operator, kms, proxy, url)
        _enter(shell, monkeypatch, tmp_path)
        yield shell


@pytest.fixture
def shell_of_fleet(aws: Aws, kms: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """A shell on the account whose secrets a running gateway holds."""
    shell = Shell(aws.client, kms, aws.proxy, aws.url, prefix=aws.prefix)
    _enter(shell, monkeypatch, tmp_path)
    return shell


def _enter(shell: Shell, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("APP_ENV", "NODE_ENV", "USE_SECRETS_MANAGER", "ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in shell.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("email_gateway.cli.connecting.default_home", lambda: folder / "no-home")
