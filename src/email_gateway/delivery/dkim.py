"""DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed over the whole body, one for each key. Pure.

The body is hashed once, whatever the number of keys. What is written is ASCII, but the fields that are
signed may be UTF-8 (RFC 6532): they are signed as the octets that they are (RFC 8616).
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from email_gateway.mail.domains import Algorithm

# What a reader sees, what a reply goes by, and how the body is read (RFC 6376 section 5.4.1); RFC 8058 section 4
# wants both fields of the one-click unsubscription. In the order in which they stand in h=.
SIGNED = (
    "from",
    "to",
    "cc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "auto-submitted",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)
# Named once more than they occur, so that a second one that is added breaks the signature (section 8.15).
OVERSIGNED = frozenset({"from", "to", "subject", "date"})
LINE_OCTETS = 72

# So much of a body is relaxed at a time: nothing else of Python runs meanwhile, whichever thread it is in.
PIECE_OCTETS = 64 * 1024

_WHITE_SPACE = re.compile(rb"[ \t]+")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_LINE_WHITE_SPACE = re.compile(rb"[ \t]+(\r\n)|[ \t]+")


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and where its public half is published."""

    domain: str
    selector: str
    key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.RSA if isinstance(self.key, RSAPrivateKey) else Algorithm.ED25519

    def sign(self, octets: bytes) -> bytes:
        """Return the signature; PureEdDSA over the SHA-256 for Ed25519 (RFC 8463 section 3)."""
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(octets, PKCS1v15(), SHA256())
        return self.key.sign(hashlib.sha256(octets).digest())


def sign(raw: bytes, signers: Sequence[Signer], at: int) -> bytes:
    """Return a message with a DKIM-Signature of each signer before it; `at` is in seconds since 1970.

    Lines must end in CRLF. The same message, signers and time give the same octets. It takes 0.3 ms for
    RSA and some microseconds for each KB of the body; any thread may run it.
    """
    end = raw.find(b"\r\n\r\n")
    fields = _fields_of(raw if end < 0 else raw[:end])
    names = _signed_names(fields)
    signed = b"".join(_signed_fields(fields, names))
    body_hash = base64.b64encode(hash_body(raw, len(raw) if end < 0 else end + 4)).decode()
    return b"".join([*(_signature(signer, names, signed, body_hash, at) for signer in signers), raw])


def hash_body(raw: bytes, at: int = 0) -> bytes:
    """Return the SHA-256 of a body in the relaxed form (RFC 6376 section 3.4.4); it begins `at` this octet of `raw`."""
    digest = hashlib.sha256()
    end = len(raw.rstrip(b" \t\r\n"))  # white space at the end of lines and empty lines at the end do not count
    if end <= at:
        return digest.digest()
    while at < end:
        next_line = raw.find(b"\n", at + PIECE_OCTETS, end) + 1 or end
        digest.update(_relax_lines(raw[at:next_line]))
        at = next_line
    digest.update(b"\r\n")
    return digest.digest()


def relax_field(name: str, value: bytes) -> bytes:
    """Return a field in the relaxed form, without the CRLF behind it (RFC 6376 section 3.4.2)."""
    return name.encode() + b":" + _WHITE_SPACE.sub(b" ", _FOLD.sub(b"", value)).strip(b" \t")


def _relax_lines(lines: bytes) -> bytes:
    # Most have nothing to relax, and looking for it costs next to nothing.
    if b"  " in lines or b"\t" in lines or b" \r\n" in lines:
        return _LINE_WHITE_SPACE.sub(_relax_white_space, lines)
    return lines


def _relax_white_space(match: re.Match[bytes]) -> bytes:
    return match[1] or b" "


def _fields_of(head: bytes) -> list[tuple[str, bytes]]:
    """Return each field's name in lower case and its value, in their order."""
    fields = []
    for line in _FIELD_END.split(head):
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name.rstrip(b" \t").decode("latin-1").lower(), value))
    return fields


def _signed_names(fields: Sequence[tuple[str, bytes]]) -> list[str]:
    present = Counter(name for name, _ in fields)
    names: list[str] = []
    for name in SIGNED:
        names += [name] * (present[name] + (name in OVERSIGNED))
    return names


def _signed_fields(fields: Sequence[tuple[str, bytes]], names: Sequence[str]) -> list[bytes]:
    """Return the fields as they are signed: of several of one name the lowest first (RFC 6376 section 5.4.2)."""
    left: dict[str, list[bytes]] = {}
    for name, value in fields:
        left.setdefault(name, []).append(value)
    # What is named more often than it occurs counts as an empty string.
    return [relax_field(name, left[name].pop()) + b"\r\n" for name in names if left.get(name)]


def _signature(signer: Signer, names: Sequence[str], signed: bytes, body_hash: str, at: int) -> bytes:
    tags = (
        f"v=1; a={signer.algorithm}; c=relaxed/relaxed; d={signer.domain};\r\n"
        f"\ts={signer.selector}; t={at};\r\n"
        f"\th={_fold_names(names)};\r\n"
        f"\tbh={body_hash};\r\n"
        "\tb="
    ).encode("ascii")
    # The field itself is signed last, with an empty b= and no CRLF behind it (section 3.7).
    signature = signer.sign(signed + relax_field("dkim-signature", b" " + tags))
    return b"DKIM-Signature: " + tags + _fold_base64(signature) + b"\r\n"


def _fold_names(names: Sequence[str]) -> str:
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 1 > LINE_OCTETS:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n\t ".join(lines).rstrip(":")


def _fold_base64(signature: bytes) -> bytes:
    encoded = base64.b64encode(signature)
    return b"\r\n\t ".join(encoded[at : at + LINE_OCTETS] for at in range(0, len(encoded), LINE_OCTETS))
