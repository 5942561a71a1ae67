"""The document of an export: read back as it was written, and refused where it contradicts itself."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from email_gateway.errors import OperationRefused
from email_gateway.operator.exported import Export, ExportedSecret, ExportedVersion, parse_document, write_document
from email_gateway.secrets.secret import SecretName

VALUE = "MARK-4d1f0e6c-8a4b-4f8e-9c55-0123456789ab"
CURRENT = ExportedVersion("a" * 32, ("AWSCURRENT", "EGW-aaaaaaaa"), datetime(2026, 11, 29, tzinfo=UTC), VALUE)
BEFORE = ExportedVersion("b" * 64, ("AWSPREVIOUS",), None, "\u00e9\ud7ff" + VALUE)


def export(*secrets: ExportedSecret) -> Export:
    return Export("123456789012", "us-east-1", "email-gateway", datetime(2026, 11, 29, 12, tzinfo=UTC), secrets)


def secret(*versions: ExportedVersion, name: SecretName = SecretName.ENCRYPTION_KEY) -> ExportedSecret:
    return ExportedSecret(name, "what it is", {"application": "email-gateway"}, "alias/email-gateway", versions)


def version(**changes: Any) -> ExportedVersion:
    return ExportedVersion(
        **{"version_id": "c" * 36, "labels": ("other",), "created_at": None, "value": VALUE} | changes
    )


def test_it_is_read_back_as_it_was_written() -> None:
    written = export(secret(CURRENT, BEFORE), secret(name=SecretName.SMTP_URL))
    read = parse_document(write_document(written))
    assert read.secrets == written.secrets
    assert (read.account_id, read.region, read.prefix) == ("123456789012", "us-east-1", "email-gateway")
    assert read.exported_at == written.exported_at
    assert [one.value for one in read.values_of(SecretName.ENCRYPTION_KEY)] == [CURRENT.value, BEFORE.value]
    assert read.secrets[0].labels()["AWSPREVIOUS"] == BEFORE.version_id


def test_no_value_stands_in_its_repr() -> None:
    assert "MARK" not in repr(parse_document(write_document(export(secret(CURRENT, BEFORE)))))


CONTRADICTIONS = {
    "a label twice": (secret(CURRENT, version(labels=("AWSCURRENT",))), "a version or a label twice"),
    "a version twice": (secret(CURRENT, version(version_id=CURRENT.version_id)), "a version or a label twice"),
    "none is current": (secret(BEFORE), "none that is current"),
    "a version without a label": (secret(CURRENT, version(labels=())), "a version without a label"),
    "an id that is too short": (secret(CURRENT, version(version_id="1")), "would not take"),
}


@pytest.mark.parametrize(("wrong", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_secret_that_contradicts_itself_is_refused(wrong: ExportedSecret, said: str) -> None:
    with pytest.raises(OperationRefused, match=said) as refused:
        parse_document(write_document(export(wrong)))
    assert "MARK" not in str(refused.value)


def test_a_secret_twice_is_refused() -> None:
    with pytest.raises(OperationRefused, match="a secret twice"):
        parse_document(write_document(export(secret(CURRENT), secret(CURRENT))))


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": "another", "version": 1}']
)
def test_what_is_no_export_is_refused(raw: bytes) -> None:
    with pytest.raises(OperationRefused, match="is no export of secrets"):
        parse_document(raw)


def test_another_version_is_named() -> None:
    raw = json.loads(write_document(export())) | {"version": 9, "secrets": "another shape"}
    with pytest.raises(OperationRefused, match="version 9, and this release reads version 1") as refused:
        parse_document(json.dumps(raw).encode())
    assert "release" in str(refused.value.next_step)


@pytest.mark.parametrize("part", ["region", "secrets", "exported_at"])
def test_a_missing_part_is_refused(part: str) -> None:
    raw = json.loads(write_document(export(secret(CURRENT))))
    del raw[part]
    with pytest.raises(OperationRefused, match="cannot be right"):
        parse_document(json.dumps(raw).encode())
