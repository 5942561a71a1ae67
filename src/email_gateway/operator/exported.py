"""An export as a document: every live version of every secret, with its id, its labels and its value.

It is JSON in UTF-8, and exists in clear in memory only::

    {"format": "email-gateway secrets", "version": 1,
     "account_id": "123456789012", "region": "us-east-1", "prefix": "email-gateway", "exported_at": "...",
     "secrets": [{"name": "encryption-key", "description": "...", "tags": {...}, "kms_key_id": "alias/...",
                  "versions": [{"version_id": "...", "labels": ["AWSCURRENT"], "created_at": "...", "value": "..."}]}]}
"""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from email_gateway.errors import OperationRefused
from email_gateway.secrets.secret import SecretName
from email_gateway.secrets.source import CURRENT

FORMAT = "email-gateway secrets"
VERSION = 1
# Of a VersionId, which is also the ClientRequestToken (AWS API reference, PutSecretValue).
FEWEST_CHARACTERS, MOST_CHARACTERS = 32, 64


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """One version that carried labels."""

    version_id: str
    labels: tuple[str, ...]
    created_at: datetime | None
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExportedSecret:
    """One secret by its name after the prefix; without versions it had no value yet."""

    name: SecretName
    description: str
    tags: dict[str, str]
    kms_key_id: str | None
    versions: tuple[ExportedVersion, ...]

    def labels(self) -> dict[str, str]:
        """Return which version carried each label: a label is on one version of a secret at a time."""
        return {label: version.version_id for version in self.versions for label in version.labels}


@dataclass(frozen=True, slots=True)
class Export:
    """The secrets under a prefix, in an account and a region, at a time."""

    account_id: str
    region: str
    prefix: str
    exported_at: datetime
    secrets: tuple[ExportedSecret, ...]

    def values_of(self, name: SecretName) -> list[ExportedVersion]:
        """Return every version of a secret."""
        return [version for secret in self.secrets if secret.name == name for version in secret.versions]


@dataclass(frozen=True, slots=True)
class _Head:
    format: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document(Export):
    format: str = FORMAT
    version: int = VERSION


def write_document(export: Export) -> bytes:
    """Return the document of an export."""
    return msgspec.json.encode(
        _Document(
            account_id=export.account_id,
            region=export.region,
            prefix=export.prefix,
            exported_at=export.exported_at,
            secrets=export.secrets,
        )
    )


def parse_document(raw: bytes) -> Export:
    """Read a document; raises OperationRefused for another format or version, and for one that contradicts itself."""
    try:
        head = msgspec.json.decode(raw, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        head = _Head("", 0)
    if head.format != FORMAT:
        raise OperationRefused(
            "what the file holds is no export of secrets", "name the file that `email-gateway secrets export` wrote"
        )
    if head.version != VERSION:
        raise OperationRefused(
            f"the export is a document of version {head.version}, and this release reads version {VERSION}",
            "use the release of the gateway that wrote it, or a later one",
        )
    try:
        export = msgspec.json.decode(raw, type=_Document)
    except msgspec.MsgspecError:
        # Its text says where and not what, but a place is of no use to whoever has a damaged document.
        raise _contradiction("a part of it is missing or of another kind") from None
    names = [secret.name for secret in export.secrets]
    if len(set(names)) < len(names):
        raise _contradiction("it has a secret twice")
    for secret in export.secrets:
        _check(secret)
    return export


def _check(secret: ExportedSecret) -> None:
    ids = [version.version_id for version in secret.versions]
    labels = [label for version in secret.versions for label in version.labels]
    if any(not FEWEST_CHARACTERS <= len(version_id) <= MOST_CHARACTERS for version_id in ids):
        raise _contradiction(f"{secret.name} has a version whose id Secrets Manager would not take")
    if len(set(ids)) < len(ids) or len(set(labels)) < len(labels):
        raise _contradiction(f"{secret.name} has a version or a label twice")
    if not all(version.labels for version in secret.versions) or (ids and CURRENT not in labels):
        raise _contradiction(f"{secret.name} has a version without a label, or none that is current")


def _contradiction(detail: str) -> OperationRefused:
    return OperationRefused(f"the export cannot be right: {detail}", "take another one")
