"""A tenant's data keys: the one that seals its values, and the one that makes its blind indexes."""

import os
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from email_gateway.errors import Tampered
from email_gateway.vault.pae import LE64, pae
from email_gateway.vault.roots import expand
from email_gateway.vault.xaes import NONCE_BYTES, TAG_BYTES, Xaes

MATERIAL_BYTES = 32
KEY_ID_BYTES = 16
ENC_INFO = b"emailgw/key/enc/v1"
ID_INFO = b"emailgw/key/id/v1"
INDEX_INFO = b"emailgw/key/idx/v1:"

MAGIC = 0xE1
SUITE_FIELD = 0x01
FIELD_HEADER = bytes((MAGIC, SUITE_FIELD))
FIELD_LABEL = b"emailgw/field/v1"
HEADER_BYTES = 2 + KEY_ID_BYTES
BODY_AT = HEADER_BYTES + NONCE_BYTES
OVERHEAD = BODY_AT + TAG_BYTES

BLIND_BYTES = 16
IDEMPOTENCY_BODY = "idempotency.body"


def make_material() -> bytes:
    """Return the 32 random bytes that a new data key is made from."""
    return os.urandom(MATERIAL_BYTES)


def fingerprint_of(material: bytes) -> bytes:
    """Return the id of the key made from `material`: it commits to the key, and reveals nothing of it."""
    return expand(material, ID_INFO, KEY_ID_BYTES)


def key_id_of(sealed: bytes) -> bytes:
    """Return the id of the key that a sealed value names.

    Raises Tampered for any other magic or suite: no key is ever tried on what does not name it.
    """
    if len(sealed) < OVERHEAD:
        raise Tampered("too short for a sealed value")
    if sealed[:2] != FIELD_HEADER:
        raise Tampered(f"not a sealed value this release knows (magic {sealed[0]:02x}, suite {sealed[1]:02x})")
    return sealed[2:HEADER_BYTES]


class FieldKey:
    """Seals and opens one tenant's values. Any thread may use it; it shows its id and no more.

    A sealed value is 58 bytes longer than its plaintext::

         0  1  2 ............ 18 ............ 42 .............. -16 ....
         E1 01 key_id (16)      nonce (24)      ciphertext        tag (16)

    XAES-256-GCM under Expand(M, "emailgw/key/enc/v1", 32). The AAD is PAE(the 18 bytes before the
    nonce, "emailgw/field/v1", tenant uuid, field name, row uuid): a value that is moved to another
    row, column or tenant does not open.
    """

    __slots__ = ("_aad_heads", "_header", "_xaes", "key_id", "material", "tenant_id")

    def __init__(self, material: bytes, tenant_id: UUID) -> None:
        self.key_id: Final = fingerprint_of(material)
        self.tenant_id: Final = tenant_id
        self.material: Final = material
        self._header = FIELD_HEADER + self.key_id
        self._xaes = Xaes(expand(material, ENC_INFO, 32))
        self._aad_heads: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"FieldKey(key_id={self.key_id.hex()})"

    def seal(self, field: str, row_id: UUID, plaintext: bytes) -> bytes:
        """Seal a value for one field of one row.

        `field` is a logical name, such as `message.content`: what is sealed under a name opens
        under that name only, for ever, so a name never changes with a table or a column.
        """
        nonce = os.urandom(NONCE_BYTES)
        head = self._aad_heads.get(field) or self._aad_head(field)
        return self._header + nonce + self._xaes.encrypt(nonce, plaintext, head + row_id.bytes)

    def open(self, field: str, row_id: UUID, sealed: bytes) -> bytes:
        """Open what `seal` made for this field and row; raises Tampered for anything else."""
        if key_id_of(sealed) != self.key_id:
            raise Tampered("the value was sealed under another key")
        head = self._aad_heads.get(field) or self._aad_head(field)
        return self._xaes.decrypt(sealed[HEADER_BYTES:BODY_AT], sealed[BODY_AT:], head + row_id.bytes)

    def seal_all(self, field: str, row_ids: Sequence[UUID], column: Sequence[bytes | None]) -> list[bytes | None]:
        """Seal one field of many rows as `seal` does, for less than one by one; None stays None."""
        head = self._aad_heads.get(field) or self._aad_head(field)
        sealed: list[bytes | None] = [None] * len(column)
        given = [(at, plaintext) for at, plaintext in enumerate(column) if plaintext is not None]
        drawn = os.urandom(NONCE_BYTES * len(given))
        nonces = [drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)]
        for (at, plaintext), nonce, cipher in zip(given, nonces, self._xaes.ciphers(nonces), strict=True):
            sealed[at] = self._header + nonce + cipher.encrypt(nonce[12:], plaintext, head + row_ids[at].bytes)
        return sealed

    def open_all(self, field: str, row_ids: Sequence[UUID], column: Sequence[bytes | None]) -> list[bytes | None]:
        """Open one field of many rows as `open` does, for less; None stands where that would raise, or for None."""
        head = self._aad_heads.get(field) or self._aad_head(field)
        opened: list[bytes | None] = [None] * len(column)
        ours = [
            (at, value)
            for at, value in enumerate(column)
            if value is not None and value.startswith(self._header) and len(value) >= OVERHEAD
        ]
        nonces = [value[HEADER_BYTES:BODY_AT] for _, value in ours]
        for (at, value), nonce, cipher in zip(ours, nonces, self._xaes.ciphers(nonces), strict=True):
            try:
                opened[at] = cipher.decrypt(nonce[12:], value[BODY_AT:], head + row_ids[at].bytes)
            except InvalidTag:
                continue
        return opened

    def _aad_head(self, field: str) -> bytes:
        """Return the AAD up to the row's sixteen bytes, which come last: it is the same for every row."""
        whole = pae(self._header, FIELD_LABEL, self.tenant_id.bytes, field.encode(), bytes(16))
        self._aad_heads[field] = head = whole[:-16]
        return head


class IndexKey:
    """Makes one tenant's blind indexes: equal values give equal bytes, and nothing gives the value back.

    HMAC-SHA256 under Expand(M, "emailgw/key/idx/v1:" + field, 32), so that one value in two fields
    or two tenants looks like two. The values of a tax id can all be tried by whoever has the key:
    it is kept like the key that seals.
    """

    __slots__ = ("_hmacs", "key_id", "material", "tenant_id")

    def __init__(self, material: bytes, tenant_id: UUID) -> None:
        self.key_id: Final = fingerprint_of(material)
        self.tenant_id: Final = tenant_id
        self.material: Final = material
        self._hmacs: dict[str, HMAC] = {}

    def __repr__(self) -> str:
        return f"IndexKey(key_id={self.key_id.hex()})"

    def blind(self, field: str, kind: int, canonical: bytes) -> bytes:
        """Return the 16-byte blind index of a value in its canonical form.

        `kind` is one byte that tells apart what would else be equal, such as a CPF and a CNPJ.
        A hit in the index is always opened and compared.
        """
        # PAE(kind, canonical) with its constant pieces written out: two pieces, the first of one byte.
        mac = (self._hmacs.get(field) or self._hmac(field)).copy()
        mac.update(b"\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0%c%b%b" % (kind, LE64.pack(len(canonical)), canonical))
        return mac.finalize()[:BLIND_BYTES]

    def fingerprint(self, body: bytes | bytearray) -> bytes:
        """Return 32 bytes that are equal for equal request bodies; a plain hash would give away a CPF."""
        mac = (self._hmacs.get(IDEMPOTENCY_BODY) or self._hmac(IDEMPOTENCY_BODY)).copy()
        mac.update(body)
        return mac.finalize()

    def _hmac(self, field: str) -> HMAC:
        key = expand(self.material, INDEX_INFO + field.encode(), 32)
        self._hmacs[field] = mac = HMAC(key, SHA256())
        return mac
