"""Wraps: data keys sealed under a root key; and canaries, which prove that a root key is the right one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.vault.data_keys import HEADER_BYTES, MAGIC, fingerprint_of
from email_gateway.vault.pae import pae
from email_gateway.vault.roots import RootKey
from email_gateway.vault.xaes import NONCE_BYTES, TAG_BYTES

WRAP_HEADER = bytes((MAGIC, 0x02))
WRAP_LABEL = b"emailgw/wrap/v1"
WRAP_BYTES = 90
CANARY_HEADER = bytes((MAGIC, 0x03))
CANARY_LABEL = b"emailgw/canary/v1"
CANARY_BYTES = HEADER_BYTES + NONCE_BYTES + len(CANARY_LABEL) + TAG_BYTES
BODY_AT = HEADER_BYTES + NONCE_BYTES


class Purpose(IntEnum):
    """What a data key is for; bound into its wrap, so that no key serves another purpose."""

    FIELD = 1
    INDEX = 2


@dataclass(frozen=True, slots=True)
class KeyName:
    """What a wrap is bound to besides its root: which key, whose, and for what."""

    key_id: bytes
    tenant_id: UUID
    purpose: Purpose


def wrap(root: RootKey, name: KeyName, material: bytes) -> bytes:
    """Seal a data key under a root, in 90 bytes::

         0  1  2 ............ 18 ............ 42 ............ 74 ........ 90
         E1 02 parent_id (16)   nonce (24)      sealed M (32)   tag (16)

    XAES-256-GCM under the root's key. The AAD is PAE(the 18 bytes before the nonce,
    "emailgw/wrap/v1", key_id, tenant uuid, one purpose byte).
    """
    header = WRAP_HEADER + root.root_id
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + root.xaes.encrypt(nonce, material, _wrap_aad(header, name))


def unwrap(root: RootKey, name: KeyName, blob: bytes) -> bytes:
    """Return the data key in a wrap, proven to be the one that `name` names.

    Raises Tampered when it is no wrap, was changed, was made for another key, tenant, purpose or
    root, or holds another key.
    """
    _require(blob, WRAP_HEADER, WRAP_BYTES, "a wrap")
    header = WRAP_HEADER + root.root_id
    if blob[:HEADER_BYTES] != header:
        raise Tampered("the wrap was made under another root key")
    material = root.xaes.decrypt(blob[HEADER_BYTES:BODY_AT], blob[BODY_AT:], _wrap_aad(header, name))
    # GCM does not commit to its key: the fingerprint does.
    if fingerprint_of(material) != name.key_id:
        raise Tampered("the wrap holds another data key")
    return material


def open_wrap(roots: Mapping[bytes, RootKey], name: KeyName, blob: bytes | None) -> bytes:
    """Unwrap with the one root that the wrap names; no other is tried.

    Raises KeyUnavailable when there is no wrap or no such root at hand, else as `unwrap` does.
    """
    if blob is None:
        raise KeyUnavailable(f"no root key at hand has a wrap of data key {name.key_id.hex()}")
    _require(blob, WRAP_HEADER, WRAP_BYTES, "a wrap")
    root = roots.get(blob[2:HEADER_BYTES])
    if root is None:
        raise KeyUnavailable(f"the wrap of data key {name.key_id.hex()} names a root key that is not at hand")
    return unwrap(root, name, blob)


def make_canary(root: RootKey) -> bytes:
    """Seal a known text under a root, in 75 bytes: whoever opens it holds the same key.

    The layout is a wrap's with suite 03 and the 17 bytes "emailgw/canary/v1" as the plaintext;
    the AAD is PAE(the 18 bytes before the nonce, "emailgw/canary/v1").
    """
    header = CANARY_HEADER + root.root_id
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + root.xaes.encrypt(nonce, CANARY_LABEL, pae(header, CANARY_LABEL))


def open_canary(root: RootKey, canary: bytes) -> None:
    """Raise Tampered unless this root key made this canary."""
    _require(canary, CANARY_HEADER, CANARY_BYTES, "a canary")
    header = CANARY_HEADER + root.root_id
    if canary[:HEADER_BYTES] != header:
        raise Tampered("the canary was made under another root key")
    aad = pae(header, CANARY_LABEL)
    if root.xaes.decrypt(canary[HEADER_BYTES:BODY_AT], canary[BODY_AT:], aad) != CANARY_LABEL:
        raise Tampered("the canary holds another text")


def _require(blob: bytes, header: bytes, length: int, what: str) -> None:
    if len(blob) != length or blob[:2] != header:
        raise Tampered(f"not {what} this release knows")


def _wrap_aad(header: bytes, name: KeyName) -> bytes:
    return pae(header, WRAP_LABEL, name.key_id, name.tenant_id.bytes, bytes((name.purpose,)))
