"""XAES-256-GCM against the specification's answers and against Tink, an implementation by others."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tink
from hypothesis import given
from hypothesis import strategies as st
from tink import aead, secret_key_access
from tink.proto import tink_pb2, x_aes_gcm_pb2

from email_gateway.errors import Tampered
from email_gateway.vault.xaes import Xaes

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "xaes-256-gcm.json").read_text())
ANSWERS = VECTORS["known_answers"]


def tink_of(key: bytes) -> aead.Aead:
    """Tink's XAES_256_GCM_192_BIT_NONCE_NO_PREFIX with a key of ours: 12 bytes of salt, 12 of nonce."""
    aead.register()
    value = x_aes_gcm_pb2.XAesGcmKey(params=x_aes_gcm_pb2.XAesGcmParams(salt_size=12), key_value=key)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.XAesGcmKey",
            value=value.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(aead.Aead)


@pytest.mark.parametrize("answer", ANSWERS, ids=["most significant bit 0", "most significant bit 1"])
def test_xaes_gives_the_known_answers_of_the_specification(answer: dict[str, str]) -> None:
    key, nonce, plaintext, aad, ciphertext = (
        bytes.fromhex(answer[name]) for name in ("key", "nonce", "plaintext", "aad", "ciphertext")
    )
    xaes = Xaes(key)
    assert xaes.encrypt(nonce, plaintext, aad) == ciphertext
    assert xaes.decrypt(nonce, ciphertext, aad) == plaintext


def test_xaes_gives_the_accumulated_hash_of_ten_thousand_cases() -> None:
    # hashlib's SHAKE-128 is not a stream: read at once more than 10,000 cases of at most 568 bytes need.
    stream = memoryview(hashlib.shake_128(b"").digest(VECTORS["accumulated"]["cases"] * 568))
    at = 0

    def read(count: int) -> bytes:
        nonlocal at
        at += count
        return bytes(stream[at - count : at])

    sealed = hashlib.shake_128()
    for _ in range(VECTORS["accumulated"]["cases"]):
        key, nonce = read(32), read(24)
        plaintext = read(read(1)[0])
        aad = read(read(1)[0])
        xaes = Xaes(key)
        ciphertext = xaes.encrypt(nonce, plaintext, aad)
        assert xaes.decrypt(nonce, ciphertext, aad) == plaintext
        sealed.update(ciphertext)
    assert sealed.hexdigest(32) == VECTORS["accumulated"]["shake128"]


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(min_size=24, max_size=24), max_size=9))
def test_many_nonces_give_the_ciphers_that_each_gives_alone(key: bytes, nonces: list[bytes]) -> None:
    xaes = Xaes(key)
    for nonce, cipher in zip(nonces, xaes.ciphers(nonces), strict=True):
        assert cipher.encrypt(nonce[12:], b"plain", b"aad") == xaes.encrypt(nonce, b"plain", b"aad")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=400), st.binary(max_size=200))
def test_tink_opens_what_xaes_seals_and_the_other_way_round(key: bytes, plaintext: bytes, aad: bytes) -> None:
    xaes, other, nonce = Xaes(key), tink_of(key), os.urandom(24)
    assert other.decrypt(nonce + xaes.encrypt(nonce, plaintext, aad), aad) == plaintext
    made = other.encrypt(plaintext, aad)
    assert xaes.decrypt(made[:24], made[24:], aad) == plaintext


def test_xaes_refuses_another_key_nonce_or_aad() -> None:
    key, nonce = bytes(32), bytes(24)
    ciphertext = Xaes(key).encrypt(nonce, b"plain", b"bound")
    for other_key, other_nonce, aad in (
        (bytes(31) + b"\1", nonce, b"bound"),
        (key, b"\1" + bytes(23), b"bound"),
        (key, bytes(23) + b"\1", b"bound"),
        (key, nonce, b"unbound"),
    ):
        with pytest.raises(Tampered):
            Xaes(other_key).decrypt(other_nonce, ciphertext, aad)


def test_xaes_refuses_keys_and_nonces_of_another_length() -> None:
    for length in (0, 16, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            Xaes(bytes(length))
    for length in (0, 12, 23, 25):
        with pytest.raises(ValueError, match="24 bytes"):
            Xaes(bytes(32)).encrypt(bytes(length), b"", b"")
        with pytest.raises(ValueError, match="24 bytes"):
            Xaes(bytes(32)).ciphers([bytes(24), bytes(length)])


def test_threads_share_one_key() -> None:
    xaes = Xaes(bytes(32))

    def seal_and_open(number: int) -> bool:
        nonce, plaintext = number.to_bytes(24), number.to_bytes(4) * 50
        return all(xaes.decrypt(nonce, xaes.encrypt(nonce, plaintext, b"aad"), b"aad") == plaintext for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(seal_and_open, range(100)))
