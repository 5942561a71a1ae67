"""Data keys: sealed values that open for their own field, row and tenant only; blind indexes that hide."""

import hashlib
import hmac
import os
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.errors import Tampered
from email_gateway.vault.data_keys import OVERHEAD, FieldKey, IndexKey, key_id_of, make_material
from email_gateway.vault.pae import pae
from email_gateway.vault.roots import expand
from tests.vault.test_xaes import tink_of

MATERIAL = bytes(range(32))
TENANT = UUID("018f2c6e-0000-7000-8000-000000000001")
ROW = UUID("018f2c6e-0000-7000-8000-000000000002")
FIELD = "message.tax_id"
PLAINTEXT = b"\x01\x0b52998224725"


@pytest.fixture(scope="module")
def key() -> FieldKey:
    return FieldKey(MATERIAL, TENANT)


@given(
    st.sampled_from(["message.content", "attachment.content", "event.reply", "champ.à.part"]),
    st.uuids(),
    st.uuids(),
    st.binary(max_size=2000),
)
def test_what_was_sealed_opens_again_and_is_58_bytes_longer(
    field: str, tenant: UUID, row: UUID, plaintext: bytes
) -> None:
    key = FieldKey(make_material(), tenant)
    sealed = key.seal(field, row, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD == len(plaintext) + 58
    assert key.open(field, row, sealed) == plaintext


@given(st.lists(st.none() | st.binary(max_size=300), max_size=20))
def test_a_column_is_sealed_and_opened_as_each_of_its_values(column: list[bytes | None]) -> None:
    key, rows = FieldKey(make_material(), TENANT), [uuid4() for _ in column]
    sealed = key.seal_all(FIELD, rows, column)
    for row, plaintext, value in zip(rows, column, sealed, strict=True):
        assert (None if value is None else key.open(FIELD, row, value)) == plaintext
    assert key.open_all(FIELD, rows, sealed) == column
    one_by_one = [value and key.seal(FIELD, row, value) for row, value in zip(rows, column, strict=True)]
    assert key.open_all(FIELD, rows, one_by_one) == [value or None for value in column]


def test_a_column_is_sealed_with_a_nonce_for_each_value(key: FieldKey) -> None:
    sealed = key.seal_all(FIELD, [ROW] * 1000, [PLAINTEXT] * 1000)
    assert len({value[18:42] for value in sealed if value}) == len({value[42:] for value in sealed if value}) == 1000


def test_what_does_not_open_in_a_column_is_none_and_spoils_nothing_else(key: FieldKey) -> None:
    good, other = key.seal(FIELD, ROW, PLAINTEXT), FieldKey(make_material(), TENANT).seal(FIELD, ROW, PLAINTEXT)
    broken = [b"", good[:57], b"\xe2" + good[1:], other, good[:-1], good[:-1] + bytes((good[-1] ^ 1,))]
    assert key.open_all(FIELD, [ROW] * 8, [good, *broken, good]) == [PLAINTEXT, *[None] * 6, PLAINTEXT]
    assert key.open_all("message.content", [ROW], [good]) == key.open_all(FIELD, [uuid4()], [good]) == [None]


def test_a_large_value_opens_again(key: FieldKey) -> None:
    plaintext = os.urandom(3_000_000)
    assert key.open("attachment.content", ROW, key.seal("attachment.content", ROW, plaintext)) == plaintext


def test_sealed_bytes_stand_where_the_design_draws_them(key: FieldKey) -> None:
    sealed = key.seal(FIELD, ROW, PLAINTEXT)
    assert sealed[:2] == b"\xe1\x01"
    assert sealed[2:18] == key.key_id == expand(MATERIAL, b"emailgw/key/id/v1", 16)
    aad = pae(sealed[:18], b"emailgw/field/v1", TENANT.bytes, FIELD.encode(), ROW.bytes)
    assert tink_of(expand(MATERIAL, b"emailgw/key/enc/v1", 32)).decrypt(sealed[18:], aad) == PLAINTEXT


def test_sealing_twice_gives_different_bytes(key: FieldKey) -> None:
    sealed = [key.seal(FIELD, ROW, PLAINTEXT) for _ in range(1000)]
    assert len({value[18:42] for value in sealed}) == len({value[42:] for value in sealed}) == 1000


def test_every_flipped_bit_of_a_sealed_value_is_noticed(key: FieldKey) -> None:
    sealed = key.seal(FIELD, ROW, PLAINTEXT)
    for at in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            with pytest.raises(Tampered):
                key.open(FIELD, ROW, bytes(changed))


def test_every_length_but_its_own_is_refused(key: FieldKey) -> None:
    sealed = key.seal(FIELD, ROW, PLAINTEXT)
    for changed in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", sealed[1:], b"\0" + sealed):
        with pytest.raises(Tampered):
            key.open(FIELD, ROW, changed)


def test_a_value_moved_to_another_row_column_or_tenant_does_not_open(key: FieldKey) -> None:
    sealed = key.seal(FIELD, ROW, PLAINTEXT)
    with pytest.raises(Tampered):
        key.open(FIELD, UUID(int=ROW.int + 1), sealed)
    with pytest.raises(Tampered):
        key.open("message.content", ROW, sealed)
    # The same key material under another tenant's name, as a swapped crypto_key row would have it.
    with pytest.raises(Tampered):
        FieldKey(MATERIAL, uuid4()).open(FIELD, ROW, sealed)
    assert key.open(FIELD, ROW, sealed) == PLAINTEXT


def test_a_value_of_another_key_does_not_open(key: FieldKey) -> None:
    other = FieldKey(make_material(), TENANT)
    sealed = other.seal(FIELD, ROW, PLAINTEXT)
    with pytest.raises(Tampered, match="another key"):
        key.open(FIELD, ROW, sealed)
    with pytest.raises(Tampered):
        key.open(FIELD, ROW, sealed[:2] + key.key_id + sealed[18:])


@pytest.mark.parametrize("head", ["e102", "e103", "e100", "e1ff", "e001", "0001"])
def test_unknown_magic_or_suite_is_refused_by_name(key: FieldKey, head: str) -> None:
    sealed = bytes.fromhex(head) + key.seal(FIELD, ROW, PLAINTEXT)[2:]
    with pytest.raises(Tampered, match=f"magic {head[:2]}, suite {head[2:]}"):
        key_id_of(sealed)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_the_typed_error(sealed: bytes) -> None:
    with pytest.raises(Tampered):
        FieldKey(MATERIAL, TENANT).open(FIELD, ROW, sealed)


@given(st.sampled_from(["tax_id", "address", "idempotency.key"]), st.integers(0, 255), st.binary(max_size=400))
def test_blind_index_is_the_hmac_of_the_design(field: str, kind: int, canonical: bytes) -> None:
    index_key = expand(MATERIAL, b"emailgw/key/idx/v1:" + field.encode(), 32)
    by_hand = hmac.digest(index_key, pae(bytes((kind,)), canonical), hashlib.sha256)[:16]
    index = IndexKey(MATERIAL, TENANT)
    assert index.blind(field, kind, canonical) == index.blind(field, kind, canonical) == by_hand


def test_blind_index_differs_by_value_kind_field_and_key() -> None:
    index, other = IndexKey(MATERIAL, TENANT), IndexKey(make_material(), TENANT)
    values = {
        index.blind("tax_id", 1, b"52998224725"),
        index.blind("tax_id", 1, b"52998224726"),
        index.blind("tax_id", 2, b"52998224725"),
        index.blind("external_id", 1, b"52998224725"),
        other.blind("tax_id", 1, b"52998224725"),
    }
    assert len(values) == 5


def test_blind_index_refuses_a_kind_of_more_than_one_byte() -> None:
    for kind in (-1, 256):
        with pytest.raises(OverflowError):
            IndexKey(MATERIAL, TENANT).blind("tax_id", kind, b"")


def test_fingerprint_is_a_keyed_hash_of_the_whole_body() -> None:
    index_key = expand(MATERIAL, b"emailgw/key/idx/v1:idempotency.body", 32)
    index = IndexKey(MATERIAL, TENANT)
    for body in (b"", b"{}", os.urandom(100_000)):
        assert index.fingerprint(body) == hmac.digest(index_key, body, hashlib.sha256)
    assert index.fingerprint(b"{}") != IndexKey(make_material(), TENANT).fingerprint(b"{}")
