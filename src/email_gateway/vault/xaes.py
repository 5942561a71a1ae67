"""XAES-256-GCM (C2SP): AES-256-GCM under a key derived per nonce, so that the nonce may be 192 random bits."""

import threading
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from email_gateway.errors import Tampered

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

# C2SP XAES-256-GCM: the two blocks that are encrypted into the derived key are a counter (1, then
# 2), the label "X", a zero byte and the first 12 bytes of the nonce (SP 800-108 with CMAC).
COUNTER_1 = b"\x00\x01X\x00" + bytes(12)
COUNTER_2 = b"\x00\x02X\x00" + bytes(12)
# Multiplied by this, the nonce's first half stands at the end of both blocks.
TWICE = (1 << 128) + 1
WRONG_NONCE = "an XAES-256-GCM nonce has 24 bytes"
CMAC_POLYNOMIAL = 0x87  # x^128 + x^7 + x^2 + x + 1 (SP 800-38B section 5.3)


class Xaes:
    """One key, ready for use by any thread. It shows nothing of itself.

    The CMAC subkey and the AES key schedule are computed once: they are half of the cost of a
    short value.
    """

    __slots__ = ("_key", "_local", "_mask")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("an XAES-256-GCM key has 32 bytes")
        self._key = algorithms.AES256(key)
        self._local = threading.local()
        subkey = _doubled(self._encryptor().update(bytes(16)))
        self._mask = int.from_bytes(COUNTER_1 + COUNTER_2) ^ int.from_bytes(subkey) * TWICE

    def __repr__(self) -> str:
        return "Xaes()"

    def encrypt(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Return ciphertext and tag. `nonce` is 24 random bytes, never used twice with this key."""
        return AESGCM(self._derive(nonce)).encrypt(nonce[12:], plaintext, aad)

    def decrypt(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """Return the plaintext; raises Tampered unless key, nonce, ciphertext and AAD all match."""
        try:
            return AESGCM(self._derive(nonce)).decrypt(nonce[12:], ciphertext, aad)
        except InvalidTag:
            raise Tampered("the authentication tag does not match") from None

    def ciphers(self, nonces: Sequence[bytes]) -> list[AESGCM]:
        """Return for each nonce the AES-256-GCM that its last 12 bytes belong to.

        One pass of the block cipher makes all their keys, for less than half of what they cost one by one.
        """
        if any(len(nonce) != NONCE_BYTES for nonce in nonces):
            raise ValueError(WRONG_NONCE)
        blocks = b"".join([b"\0\0\0\0%b\0\0\0\0%b" % (nonce[:12], nonce[:12]) for nonce in nonces])
        masks = self._mask.to_bytes(KEY_BYTES) * len(nonces)
        masked = int.from_bytes(blocks) ^ int.from_bytes(masks)
        keys = self._encryptor().update(masked.to_bytes(len(blocks)))
        return [AESGCM(keys[at : at + KEY_BYTES]) for at in range(0, len(keys), KEY_BYTES)]

    def _derive(self, nonce: bytes) -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise ValueError(WRONG_NONCE)
        try:
            encryptor = self._local.encryptor
        except AttributeError:
            encryptor = self._encryptor()
        key: bytes = encryptor.update((int.from_bytes(nonce[:12]) * TWICE ^ self._mask).to_bytes(KEY_BYTES))
        return key

    def _encryptor(self) -> CipherContext:
        # A context must not be shared by threads: nothing promises that its calls are atomic.
        # ECB is the bare block cipher here, as the CMAC of the key derivation needs it.
        self._local.encryptor = encryptor = Cipher(self._key, modes.ECB()).encryptor()  # noqa: S305
        return encryptor


def _doubled(block: bytes) -> bytes:
    """Multiply by x in GF(2^128): how CMAC makes its subkey K1 (SP 800-38B section 6.1)."""
    shifted = int.from_bytes(block) << 1
    if shifted >> 128:
        shifted = shifted & ((1 << 128) - 1) ^ CMAC_POLYNOMIAL
    return shifted.to_bytes(16)
