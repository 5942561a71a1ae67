"""An API key as text: how it is made, and how one that was never made here is told without asking the database.

```
eg_ 0f3a9c21 _ Zk3w...(43)...9fA  1b2C3d
    prefix     secret             checksum
```

The prefix (8 hexadecimal digits) may be shown. The secret is 256 random bits in base64url. The checksum is the CRC-32
of everything before it, in six digits of base62, as GitHub's tokens have it. One wrong character is always found, and
so are two that changed places before the checksum or in it: the polynomial of CRC-32 is primitive, and no such
difference is a multiple of it. Where one changes places with another across the border, one in 2^32 passes; of
invented keys one in 62^6 (57,000,000,000). What passes is looked up, in vain.

Keys that were made before this end with the secret: their length tells them apart.
"""

import re
import secrets
import zlib
from dataclasses import dataclass, field

SECRET_BYTES = 32
CHECKSUM_DIGITS = 6
DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# What a scanner of secrets looks for (docs/tenants.md).
PATTERN = r"eg_[0-9a-f]{8}_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}"
KEY_CHARACTERS = 61
_SHAPE = re.compile(rb"eg_[0-9a-f]{8}_[A-Za-z0-9_-]{43}(?:[0-9A-Za-z]{6})?")


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key just made; `prefix` is the part of it that may be shown, `eg_` included."""

    prefix: str
    secret: str = field(repr=False)


def make_key_text() -> KeyText:
    """Make a key of 256 random bits."""
    prefix = f"eg_{secrets.token_hex(4)}"
    body = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}".encode()
    return KeyText(prefix, (body + checksum(body)).decode())


def is_shaped_like_key(text: bytes) -> bool:
    """Tell whether a text has the form of a key, with a checksum or without."""
    return _SHAPE.fullmatch(text) is not None


def is_mistyped(key: bytes) -> bool:
    """Tell whether a text of that form was never made here: it has a checksum, and not the right one."""
    return len(key) == KEY_CHARACTERS and checksum(key[:-CHECKSUM_DIGITS]) != key[-CHECKSUM_DIGITS:]


def checksum(body: bytes) -> bytes:
    """Return the six digits that follow this body."""
    rest, digits = zlib.crc32(body), bytearray()
    for _ in range(CHECKSUM_DIGITS):
        rest, digit = divmod(rest, len(DIGITS))
        digits.append(DIGITS[digit])
    return bytes(reversed(digits))
