"""A secret in Secrets Manager: its versions, their staging labels and values.

Every read names a label, since an emulator answers one without with any version. What the AWS client
raises becomes `AwsRefused` here.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from botocore.exceptions import ClientError

from email_gateway.aws.failures import AwsRefused, RotationFailed

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CURRENT = "AWSCURRENT"
PENDING = "AWSPENDING"
ABSENT = "ResourceNotFoundException"
ALREADY_THERE = "ResourceExistsException"
CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")

T = TypeVar("T")


class Secret:
    """One secret as DescribeSecret told it; `labels` are those of each version, by VersionId."""

    def __init__(self, client: "SecretsManagerClient", described: Mapping[str, Any]) -> None:
        self._client = client
        self.arn = str(described["ARN"])
        self.name = str(described["Name"])
        self.is_rotation_enabled = described.get("RotationEnabled") is True
        self.labels: dict[str, list[str]] = dict(described.get("VersionIdsToStages") or {})

    @classmethod
    def describe(cls, client: "SecretsManagerClient", secret_id: str) -> Self:
        """Look a secret up by ARN or name; raises AwsRefused, or RotationFailed for what is no answer."""
        described: Mapping[str, Any] = _ask("DescribeSecret", lambda: client.describe_secret(SecretId=secret_id))
        if "ARN" not in described or "Name" not in described:
            # botocore turns a 200 that holds a web page into an empty answer.
            raise RotationFailed("DescribeSecret was not answered by Secrets Manager: check AWS_ENDPOINT_URL")
        return cls(client, described)

    def describe_again(self) -> Self:
        """Return the secret as it is now."""
        return self.describe(self._client, self.arn)

    def has(self, version_id: str, label: str) -> bool:
        """Tell whether the version carried the label."""
        return label in self.labels.get(version_id, ())

    def find_labelled(self, label: str) -> str | None:
        """Return the VersionId that carried the label."""
        return next((version_id for version_id, labels in self.labels.items() if label in labels), None)

    def find_pending(self, version_id: str) -> str | None:
        """Return the text of this AWSPENDING version, or None while it has none.

        A rotation begins with a version that is only an id.
        """
        try:
            answer = _ask(
                "GetSecretValue",
                lambda: self._client.get_secret_value(SecretId=self.arn, VersionId=version_id, VersionStage=PENDING),
            )
        except AwsRefused as refused:
            if refused.code == ABSENT:
                return None
            raise
        return _read_text(answer, self.name)

    def find_current(self) -> str | None:
        """Return the text of the AWSCURRENT version, or None when there is none."""
        return find_current_value(self._client, self.arn)

    def put_pending(self, version_id: str, value: str, rotation_token: str | None) -> None:
        """Give this version its value and the label AWSPENDING; a version that has a value keeps it."""
        # Only rotations across accounts have the token, and only newer releases of boto3 know it.
        more: Any = {"RotationToken": rotation_token} if rotation_token is not None else {}
        try:
            _ask(
                "PutSecretValue",
                lambda: self._client.put_secret_value(
                    SecretId=self.arn,
                    ClientRequestToken=version_id,
                    SecretString=value,
                    VersionStages=[PENDING],
                    **more,
                ),
            )
        except AwsRefused as refused:
            # A run before this one stored another value and died, and our read was too early to see it.
            if refused.code != ALREADY_THERE:
                raise

    def move_label(self, label: str, *, to: str | None = None, off: str | None = None) -> None:
        """Put a label on one version, take it off another, or both at once; raises AwsRefused."""
        which: Any = {"MoveToVersionId": to, "RemoveFromVersionId": off}
        given = {name: version_id for name, version_id in which.items() if version_id is not None}
        _ask(
            "UpdateSecretVersionStage",
            lambda: self._client.update_secret_version_stage(SecretId=self.arn, VersionStage=label, **given),
        )


def find_current_value(client: "SecretsManagerClient", secret_id: str) -> str | None:
    """Return the text of a secret's AWSCURRENT version, or None when there is no such secret or version."""
    try:
        answer = _ask("GetSecretValue", lambda: client.get_secret_value(SecretId=secret_id, VersionStage=CURRENT))
    except AwsRefused as refused:
        if refused.code == ABSENT:
            return None
        raise
    return _read_text(answer, secret_id)


def _read_text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get("SecretString")
    if not isinstance(value, str):
        raise RotationFailed(f"the value of {name} is not text in SecretString")
    return value


def _ask(action: str, call: Callable[[], T]) -> T:
    """Call AWS; what it raises becomes AwsRefused, which keeps no trace of the original.

    The texts of the client's errors quote parameters and answers, and so values.
    """
    try:
        return call()
    except ClientError as error:
        told = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = told if CODE.fullmatch(told) else f"HTTP {status}"
    except Exception as error:  # noqa: BLE001  (the client's parser raises anything on a malformed answer)
        code = type(error).__name__
    # Outside of the handler, or the original would hang on as the context.
    raise AwsRefused(action, code)
