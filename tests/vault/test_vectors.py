"""Bytes in `tests/vectors/sealed.json` that every release must open: somebody's database holds such bytes.

`python -m tests.vault.test_vectors` makes the file anew. Do that only to add cases: what stands in it
stays. See tests/vectors/README.md.
"""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from email_gateway.errors import Tampered
from email_gateway.vault.data_keys import FieldKey, IndexKey, fingerprint_of
from email_gateway.vault.pae import pae
from email_gateway.vault.roots import derive_root, expand
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, open_canary, unwrap, wrap
from tests.vault.test_xaes import tink_of

FILE = Path(__file__).parent.parent / "vectors" / "sealed.json"

ROOTS = [
    ("an encryption key made for tests only", "an encryption salt made for tests only"),
    ("  dGhpcyBsb29rcyBsaWtlIGJhc2U2NCBidXQgaXMgdGV4dA==\n", "sál com acentos, só para testes: ação, pão\r\n"),
]
TENANTS = [UUID("018f2c6e-0000-7000-8000-00000000000a"), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")]
ROW = UUID("018f2c6e-1234-7abc-9def-0123456789ab")
SEALED = [
    ("message.content", b""),
    ("message.content", '{"subject":"São João"}'.encode()),
    ("message.tax_id", b"\x01\x0b52998224725\0\0\0"),
    ("message.tax_id", b"\x02\x0e12ABC34501DE35"),
    ("attachment.content", bytes(range(256)) * 2),
    ("event.reply", b"550 5.1.1 no such user"),
    ("inbox.raw", b"Subject: x\r\n\r\n."),
]
BLIND = [
    ("tax_id", 1, b"52998224725"),
    ("tax_id", 2, b"12ABC34501DE35"),
    ("address", 0, b"joao@xn--exmplo-qta.com.br"),
    ("external_id", 0, "nº 7".encode()),
    ("idempotency.key", 0, b"order-4711"),
]
BODIES = [b"", b'{"to":"a@example.com"}']


def make_vectors() -> list[dict[str, Any]]:
    """Seal the cases above: one entry for each root, with a tenant's two keys."""
    return [_make_entry(number, *secrets) for number, secrets in enumerate(ROOTS)]


def _make_entry(number: int, encryption_key: str, encryption_salt: str) -> dict[str, Any]:
    root, tenant = derive_root(encryption_key, encryption_salt), TENANTS[number]
    materials = {purpose: bytes((number * 16 + purpose,)) * 32 for purpose in Purpose}
    field_key = FieldKey(materials[Purpose.FIELD], tenant)
    index_key = IndexKey(materials[Purpose.INDEX], tenant)
    return {
        "encryption_key": encryption_key,
        "encryption_salt": encryption_salt,
        "root_id": root.root_id.hex(),
        "canary": make_canary(root).hex(),
        "tenant_id": str(tenant),
        "keys": [
            {
                "purpose": purpose,
                "material": material.hex(),
                "key_id": fingerprint_of(material).hex(),
                "wrap": wrap(root, KeyName(fingerprint_of(material), tenant, purpose), material).hex(),
            }
            for purpose, material in materials.items()
        ],
        "sealed": [
            {
                "field": field,
                "row_id": str(ROW),
                "plaintext": plaintext.hex(),
                "sealed": field_key.seal(field, ROW, plaintext).hex(),
            }
            for field, plaintext in SEALED
        ],
        "blind": [
            {"field": field, "kind": kind, "canonical": value.hex(), "blind": index_key.blind(field, kind, value).hex()}
            for field, kind, value in BLIND
        ],
        "fingerprints": [{"body": body.hex(), "fingerprint": index_key.fingerprint(body).hex()} for body in BODIES],
    }


VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[vector["root_id"][:8] for vector in VECTORS])


def opened_keys(vector: dict[str, Any]) -> dict[int, bytes]:
    """Both data keys, out of their wraps: from the two secrets alone, as a restored database has it."""
    root, tenant = derive_root(vector["encryption_key"], vector["encryption_salt"]), UUID(vector["tenant_id"])
    return {
        key["purpose"]: unwrap(
            root,
            KeyName(bytes.fromhex(key["key_id"]), tenant, Purpose(key["purpose"])),
            bytes.fromhex(key["wrap"]),
        )
        for key in vector["keys"]
    }


def test_the_file_holds_every_case() -> None:
    assert len(VECTORS) >= len(ROOTS)
    for vector in VECTORS:
        assert len(vector["sealed"]) >= len(SEALED)
        assert len(vector["blind"]) >= len(BLIND)
        assert [key["purpose"] for key in vector["keys"]] == [1, 2]


@each_vector
def test_the_secrets_still_name_the_same_root_and_open_its_canary(vector: dict[str, Any]) -> None:
    root = derive_root(vector["encryption_key"], vector["encryption_salt"])
    assert root.root_id.hex() == vector["root_id"]
    open_canary(root, bytes.fromhex(vector["canary"]))


@each_vector
def test_wraps_still_open(vector: dict[str, Any]) -> None:
    assert [material.hex() for material in opened_keys(vector).values()] == [key["material"] for key in vector["keys"]]


@each_vector
def test_sealed_values_still_open(vector: dict[str, Any]) -> None:
    tenant = UUID(vector["tenant_id"])
    key = FieldKey(opened_keys(vector)[Purpose.FIELD], tenant)
    for case in vector["sealed"]:
        sealed, row = bytes.fromhex(case["sealed"]), UUID(case["row_id"])
        assert key.open(case["field"], row, sealed).hex() == case["plaintext"]
        with pytest.raises(Tampered):
            key.open(case["field"] + "s", row, sealed)


@each_vector
def test_sealed_values_open_in_another_implementation(vector: dict[str, Any]) -> None:
    other = tink_of(expand(opened_keys(vector)[Purpose.FIELD], b"emailgw/key/enc/v1", 32))
    tenant = UUID(vector["tenant_id"])
    for case in vector["sealed"]:
        sealed = bytes.fromhex(case["sealed"])
        aad = pae(sealed[:18], b"emailgw/field/v1", tenant.bytes, case["field"].encode(), UUID(case["row_id"]).bytes)
        assert other.decrypt(sealed[18:], aad).hex() == case["plaintext"]


@each_vector
def test_blind_indexes_and_fingerprints_stay_the_same(vector: dict[str, Any]) -> None:
    key = IndexKey(opened_keys(vector)[Purpose.INDEX], UUID(vector["tenant_id"]))
    for case in vector["blind"]:
        assert key.blind(case["field"], case["kind"], bytes.fromhex(case["canonical"])).hex() == case["blind"]
    for case in vector["fingerprints"]:
        assert key.fingerprint(bytes.fromhex(case["body"])).hex() == case["fingerprint"]


if __name__ == "__main__":
    FILE.write_text(json.dumps(make_vectors(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
