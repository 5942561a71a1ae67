"""Read every live version of every secret, for a copy that is kept offline; changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from email_gateway.errors import OperationRefused
from email_gateway.operator.account import Account
from email_gateway.operator.exported import Export, ExportedSecret, ExportedVersion
from email_gateway.operator.stored import StoredSecret, find_stored, find_version, how_to_restore
from email_gateway.secrets.secret import SECRETS, KnownSecret, SecretName


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A version that carries labels and has no value that could be kept."""

    name: SecretName
    version_id: str
    labels: tuple[str, ...]
    reason: str


def collect(account: Account, report: Callable[[SecretName], None]) -> tuple[Export, list[LeftOut]]:
    """Return what is there, and which versions hold nothing to keep; `report` is told each secret before it is read.

    Live are the versions that carry a label: Secrets Manager may delete the others at any time. Raises
    OperationRefused where a critical secret is missing, or one is about to be deleted and cannot be read.
    """
    account_id = str(account.call("sts:GetCallerIdentity").get("Account"))
    secrets: list[ExportedSecret] = []
    left_out: list[LeftOut] = []
    for known in SECRETS:
        report(known.name)
        stored = _find(account, known)
        if stored is not None:
            versions = _read_versions(account, stored, left_out)
            secrets.append(
                ExportedSecret(known.name, stored.description, dict(stored.tags), stored.kms_key_id, versions)
            )
    return Export(account_id, account.region, account.prefix, datetime.now(UTC), tuple(secrets)), left_out


def _find(account: Account, known: KnownSecret) -> StoredSecret | None:
    stored = find_stored(account, known.name)
    if stored is not None and stored.deleted_at is not None:
        raise OperationRefused(
            f"{stored.full_name} is scheduled for deletion and cannot be read", how_to_restore(stored)
        )
    if known.is_critical and (stored is None or stored.current is None):
        raise OperationRefused(
            f"{account.full_name(known.name)} has no value: without it an export is no backup",
            "`email-gateway secrets verify` shows what is there; check AWS_REGION and SECRETS_PREFIX",
        )
    return stored


def _read_versions(account: Account, stored: StoredSecret, left_out: list[LeftOut]) -> tuple[ExportedVersion, ...]:
    versions = []
    for version_id, labels in stored.labels.items():
        if not labels:
            continue  # an emulator tells of these too
        version = find_version(account, stored, version_id)
        if version is not None and isinstance(version.text, str):
            versions.append(ExportedVersion(version_id, labels, version.created_at, version.text))
            continue
        reason = "it has no value yet" if version is None else "it is binary: the gateway has never taken it"
        left_out.append(LeftOut(stored.name, version_id, labels, reason))
    return tuple(versions)
