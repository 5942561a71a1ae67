"""The KMS key that encrypts the secrets: found by its alias, or by our tag where a run died before the alias."""

from dataclasses import dataclass
from typing import Any

from email_gateway.errors import AwsRefused
from email_gateway.operator.account import Account

# KMS keys have no name of their own; the tag is given in the call that makes one, the alias in the next.
PREFIX_TAG = "email-gateway:prefix"
ENABLED = "Enabled"


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key and its state as DescribeKey tells it."""

    arn: str
    state: str

    @property
    def is_usable(self) -> bool:
        return self.state == ENABLED

    @property
    def next_step(self) -> str:
        """What to do about a key that cannot be used."""
        if self.state == "PendingDeletion":
            return f"`aws kms cancel-key-deletion --key-id {self.arn}`, then `aws kms enable-key` with the same id"
        return f"`aws kms enable-key --key-id {self.arn}`, or see in KMS why it is {self.state}"


def find_key(account: Account, key_id: str) -> KmsKey | None:
    """Return a key by its id, ARN or alias."""
    told = account.find("kms:DescribeKey", on=key_id, KeyId=key_id)
    if told is None:
        return None
    metadata = told["KeyMetadata"]
    return KmsKey(metadata["Arn"], metadata["KeyState"])


def find_key_without_alias(account: Account) -> KmsKey | None:
    """Return the key that a run of ours made before it died, by its tag; of several the one with the least id.

    Keys whose tags we may not read are somebody else's.
    """
    ours: list[KmsKey] = []
    page: dict[str, Any] = {}
    while True:
        told = account.call("kms:ListKeys", **page)
        mine = [find_key(account, key["KeyId"]) for key in told["Keys"] if _is_ours(account, key["KeyId"])]
        ours += [key for key in mine if key is not None and key.is_usable]
        if not told.get("Truncated"):
            return min(ours, key=lambda key: key.arn, default=None)
        page = {"Marker": told["NextMarker"]}


def names_alias(key_id: str | None, alias: str) -> bool:
    """Tell whether this id of a key is the alias, by name or by ARN."""
    return key_id is not None and (key_id == alias or key_id.endswith(f":{alias}"))


def make_key(account: Account) -> str:
    """Make a key and return its ARN."""
    told = account.call(
        "kms:CreateKey",
        Description=f"Encrypts the secrets {account.prefix}/*",
        Tags=[{"TagKey": PREFIX_TAG, "TagValue": account.prefix}],
    )
    return str(told["KeyMetadata"]["Arn"])


def make_alias(account: Account, key_arn: str) -> None:
    """Give the key the alias by which secrets name it."""
    account.make("kms:CreateAlias", on=account.kms_alias, AliasName=account.kms_alias, TargetKeyId=key_arn)


def _is_ours(account: Account, key_id: str) -> bool:
    try:
        told = account.call("kms:ListResourceTags", on=key_id, KeyId=key_id)
    except AwsRefused as refused:
        if refused.aws_code.startswith("AccessDenied"):
            return False
        raise
    return {"TagKey": PREFIX_TAG, "TagValue": account.prefix} in told["Tags"]
