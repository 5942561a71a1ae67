"""Secrets Manager's side of a rotation, as RotateSecret does it: moto runs no function itself."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from email_gateway.aws.failures import RotationFailed
from email_gateway.aws.gateway import Patience, Send, send_once
from email_gateway.aws.rotation import take_step
from tests.aws.recording_gateway import RecordingGateway
from tests.moto_server import begin_rotation, kept_secret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
SERVED = ("encryption-key", "admin-api-key")
VALUES = {
    "encryption-key": "MARK-key-4d1f0e6c-8a4b-4f8e-9c55-0123456789ab",
    "encryption-salt": "MARK-salt-b7a0f1de-3c2b-4a19-8d77-0123456789ab",
    "admin-api-key": "MARK-admin-55aa1c3e-0f0f-4e6d-a1a1-0123456789ab",
    "database-url": "postgresql://gateway:MARK-password@db/gateway",
    "rotation-key": "MARK-rotation-9d0c1b2a-7e6f-4a5b-8c9d-0123456789ab",
}
# Long enough for a busy machine, with as many repeats as in Lambda, and no waiting in between.
QUICK = Patience(call=5.0, total=20.0, pauses=(0.01, 0.01, 0.01, 0.01))


@dataclass
class Rotating:
    """One test's secrets under a prefix of their own, the gateway, and a step at a time."""

    client: "SecretsManagerClient"
    gateway: RecordingGateway
    prefix: str = field(default_factory=lambda: f"gateway-{uuid.uuid4().hex[:12]}")
    environ: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    """The VersionIds that the secrets began with."""

    def arn(self, name: str) -> str:
        return str(self.client.describe_secret(SecretId=f"{self.prefix}/{name}")["ARN"])

    def begin(self, name: str, *, copies_current: bool = False) -> str:
        """Enable rotation and make a pending version without a value; returns its VersionId."""
        version_id = begin_rotation(f"{self.prefix}/{name}")
        if copies_current:
            self.kept(name).versions[version_id]["secret_string"] = self.value(name, "AWSCURRENT")
        return version_id

    def disable(self, name: str) -> None:
        self.kept(name).rotation_enabled = False

    def kept(self, name: str) -> Any:
        """Return the secret as the emulator holds it: its API has no way to these states."""
        return kept_secret(f"{self.prefix}/{name}")

    def take(
        self,
        step: str,
        name: str,
        version_id: str,
        *,
        client: "SecretsManagerClient | None" = None,
        send: Send = send_once,
        rotation_token: str | None = None,
    ) -> None:
        """Call the function with the event that Secrets Manager would send."""
        event = {"Step": step, "SecretId": self.arn(name), "ClientRequestToken": version_id}
        if rotation_token is not None:
            event["RotationToken"] = rotation_token
        environ = {"GATEWAY_URL": self.gateway.url, **self.environ}
        take_step(event, client or self.client, environ, send=send, patience=QUICK)

    def rotate(self, name: str, version_id: str) -> None:
        for step in STEPS:
            self.take(step, name, version_id)

    def value(self, name: str, label: str, version_id: str | None = None) -> str:
        which: Any = {"VersionId": version_id} if version_id else {}
        return self.client.get_secret_value(SecretId=f"{self.prefix}/{name}", VersionStage=label, **which)[
            "SecretString"
        ]

    def labels(self, name: str) -> dict[str, set[str]]:
        told = self.client.describe_secret(SecretId=f"{self.prefix}/{name}")["VersionIdsToStages"]
        return {version_id: set(labels) for version_id, labels in told.items()}

    def assert_rotated(self, name: str, version_id: str) -> None:
        """The new version is current and pinned, the one that began is previous and pinned, nothing is pending."""
        old = self.versions[name]
        assert self.labels(name) == {
            version_id: {"AWSCURRENT", f"EGW-{version_id[:8]}"},
            old: {"AWSPREVIOUS", f"EGW-{old[:8]}"},
        }
        assert self.gateway.asked[-1].path == "/admin/keys/rotation/complete"
        assert self.gateway.asked[-1].body == {"secret": name, "version_id": version_id}


class Died(BaseException):
    """The function's process is gone: nothing in it may catch this."""


class Mortal:
    """Counts the calls of one run, to AWS and to the gateway, and dies after so many, each of which took effect."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def client(self, real: "SecretsManagerClient") -> Any:
        mortal = self

        class Client:
            def __getattr__(self, action: str) -> Callable[..., Any]:
                return mortal.counting(getattr(real, action))

        return Client()

    def counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **parameters: Any) -> Any:
            answer = call(*args, **parameters)
            self._left -= 1
            if self._left == 0:
                raise Died
            return answer

        return counted


def everything_said_by(error: BaseException) -> str:
    """Return all that an error and those behind it would show anywhere."""
    told, behind = "", [error]
    while behind:
        one = behind.pop()
        fields = one.__dict__ if isinstance(one, RotationFailed) else {}
        told += f"{one!r} {one} {one.args!r} {fields!r}\n"
        behind += [other for other in (one.__context__, one.__cause__) if other is not None]
    return told
