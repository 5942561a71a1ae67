"""A secret as Secrets Manager keeps it: its versions, their labels, its policy; values only to be checked or put."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from email_gateway.errors import OperationRefused
from email_gateway.operator.account import Account
from email_gateway.secrets.secret import SECRETS, KnownSecret, SecretName
from email_gateway.secrets.source import CURRENT, PENDING

PREVIOUS = "AWSPREVIOUS"
# Secrets Manager prunes versions without a label. The rotation function pins by the same form.
PIN = "EGW-"
PIN_CHARACTERS = 8
# A version has room for twenty labels, and each version of a secret has its own pin.
PINNED = (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT)
# What can be made at random; the others are URLs, which only their owner knows.
GENERATED = (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT, SecretName.ADMIN_API_KEY, SecretName.ROTATION_KEY)


def get_known(name: str) -> KnownSecret:
    """Return what is expected of a secret, by its name after the prefix; raises OperationRefused."""
    for known in SECRETS:
        if known.name == name:
            return known
    raise OperationRefused(
        "the gateway has no secret of this name", f"it has {', '.join(known.name for known in SECRETS)}"
    )


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One secret as DescribeSecret told it; `labels` are those of each version, by VersionId."""

    name: SecretName
    full_name: str
    arn: str
    kms_key_id: str | None
    labels: Mapping[str, tuple[str, ...]]
    tags: Mapping[str, str]
    deleted_at: datetime | None
    rotation_function: str | None
    next_rotation_at: datetime | None
    description: str

    @property
    def current(self) -> str | None:
        """The VersionId that carries AWSCURRENT; None while the secret has no value."""
        return self._labelled(CURRENT)

    @property
    def previous(self) -> str | None:
        return self._labelled(PREVIOUS)

    @property
    def pending(self) -> str | None:
        """The VersionId that a rotation has begun and not finished, if any."""
        pending = self._labelled(PENDING)
        return pending if pending != self.current else None

    def _labelled(self, label: str) -> str | None:
        return next((version for version, labels in self.labels.items() if label in labels), None)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a secret with its text, which is shown nowhere."""

    version_id: str
    text: object = field(repr=False)
    created_at: datetime | None


def find_stored(account: Account, name: SecretName) -> StoredSecret | None:
    """Return what Secrets Manager says of a secret, or None where there is none."""
    full_name = account.full_name(name)
    told = account.find("secretsmanager:DescribeSecret", on=full_name, SecretId=full_name)
    if told is None:
        return None
    if "ARN" not in told or told.get("Name") != full_name:
        # botocore turns a 200 that holds a web page into an empty answer.
        raise OperationRefused("DescribeSecret was not answered by Secrets Manager", "check AWS_ENDPOINT_URL")
    is_rotating = told.get("RotationEnabled") is True
    return StoredSecret(
        name=name,
        full_name=full_name,
        arn=told["ARN"],
        kms_key_id=told.get("KmsKeyId"),
        labels={version: tuple(labels) for version, labels in (told.get("VersionIdsToStages") or {}).items()},
        tags={tag["Key"]: tag["Value"] for tag in told.get("Tags") or ()},
        deleted_at=told.get("DeletedDate"),
        rotation_function=told.get("RotationLambdaARN") if is_rotating else None,
        next_rotation_at=told.get("NextRotationDate") if is_rotating else None,
        description=told.get("Description") or "",
    )


def get_stored(account: Account, name: SecretName) -> StoredSecret:
    """Return a secret that can be changed; raises OperationRefused where it is missing or to be deleted."""
    stored = find_stored(account, name)
    if stored is None:
        raise OperationRefused(f"there is no secret {account.full_name(name)}", f"`email-gateway secrets init {name}`")
    if stored.deleted_at is not None:
        raise OperationRefused(f"{stored.full_name} is scheduled for deletion", how_to_restore(stored))
    return stored


def how_to_restore(stored: StoredSecret) -> str:
    """Return the command that takes a secret back from deletion."""
    return f"`aws secretsmanager restore-secret --secret-id {stored.full_name}` if it should stay"


def how_to_change(name: SecretName) -> str:
    """Return the command that gives a secret another value."""
    if name in GENERATED:
        return f"`email-gateway secrets rotate {name}`"
    return f"`email-gateway secrets set {name} --from-file FILE`"


def read_version(account: Account, stored: StoredSecret, label: str = CURRENT) -> Version:
    """Return the version with this label and its text; raises AwsRefused.

    Always by label: an emulator answers one without with any version.
    """
    answer = account.call("secretsmanager:GetSecretValue", on=stored.full_name, SecretId=stored.arn, VersionStage=label)
    return Version(str(answer.get("VersionId")), answer.get("SecretString"), answer.get("CreatedDate"))


def find_version(account: Account, stored: StoredSecret, version_id: str) -> Version | None:
    """Return the version of this id and its text, labelled or not; None where it is not there or has no value yet."""
    answer = account.find(
        "secretsmanager:GetSecretValue", on=stored.full_name, SecretId=stored.arn, VersionId=version_id
    )
    if answer is None:
        return None
    if answer.get("VersionId") != version_id:
        raise OperationRefused("GetSecretValue was not answered by Secrets Manager", "check AWS_ENDPOINT_URL")
    return Version(version_id, answer.get("SecretString"), answer.get("CreatedDate"))


def put_version(
    account: Account, stored: StoredSecret, value: str, token: str, labels: Sequence[str] = (CURRENT,)
) -> str:
    """Make a version with these labels, taken from whichever had them, and return its VersionId, which is `token`.

    Secrets Manager takes a token once: a repeat after a lost answer makes no second version.
    """
    answer = account.call(
        "secretsmanager:PutSecretValue",
        on=stored.full_name,
        SecretId=stored.arn,
        SecretString=value,
        ClientRequestToken=token,
        VersionStages=list(labels),
    )
    return str(answer["VersionId"])


def move_label(
    account: Account, stored: StoredSecret, label: str, *, to: str | None = None, off: str | None = None
) -> None:
    """Put a label on one version, take it off another, or both at once."""
    which = {"MoveToVersionId": to, "RemoveFromVersionId": off}
    given = {name: version for name, version in which.items() if version is not None}
    account.call(
        "secretsmanager:UpdateSecretVersionStage",
        on=stored.full_name,
        SecretId=stored.arn,
        VersionStage=label,
        **given,
    )


def pin(account: Account, stored: StoredSecret, version_id: str) -> None:
    """Keep Secrets Manager from pruning a version of the key or the salt: a backup may need its root key."""
    labels = stored.labels.get(version_id, ())
    if stored.name in PINNED and not any(label.startswith(PIN) for label in labels):
        move_label(account, stored, f"{PIN}{version_id[:PIN_CHARACTERS]}", to=version_id)


def find_policy(account: Account, stored: StoredSecret) -> dict[str, Any] | None:
    """Return the secret's resource policy, or None where it has none."""
    told = account.call("secretsmanager:GetResourcePolicy", on=stored.full_name, SecretId=stored.arn)
    text = told.get("ResourcePolicy")
    policy: dict[str, Any] | None = json.loads(text) if text else None
    return policy
