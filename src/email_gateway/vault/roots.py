"""The root key: derived from two secrets, named by its content, and used to wrap data keys only."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from email_gateway.errors import ConfigurationError
from email_gateway.vault.xaes import Xaes

MIN_SECRET_CHARACTERS = 32
ASCII_WHITE_SPACE = " \t\n\r\v\f"
KEK_INFO = b"emailgw/root/kek/v1"
ID_INFO = b"emailgw/root/id/v1"


class RootKey:
    """A key-encryption key and its name.

    `root_id` is 16 bytes derived beside the key: the same two secrets give the same name
    everywhere, whatever the versions of the secrets are called. It may be shown; the key may not.
    """

    __slots__ = ("root_id", "xaes")

    def __init__(self, root_id: bytes, kek: bytes) -> None:
        self.root_id = root_id
        self.xaes = Xaes(kek)

    def __repr__(self) -> str:
        return f"RootKey(root_id={self.root_id.hex()})"


def derive_root(encryption_key: str, encryption_salt: str) -> RootKey:
    """Derive the root key from the two secrets as they are stored (HKDF-SHA256, RFC 5869).

    ASCII white space at both ends does not count, since editors and shells add line ends; nothing
    is decoded, so there is one reading only. Raises ConfigurationError, naming every problem and
    no value, when one is shorter than 32 characters or both are equal.
    """
    key, salt = encryption_key.strip(ASCII_WHITE_SPACE), encryption_salt.strip(ASCII_WHITE_SPACE)
    problems = [
        f"the encryption {name} {problem}"
        for name, value in (("key", key), ("salt", salt))
        if (problem := _problem(value)) is not None
    ]
    if key == salt:
        problems.append("the encryption key and the encryption salt must differ")
    if problems:
        raise ConfigurationError("; ".join(problems))
    prk = extract(salt=salt.encode(), key_material=key.encode())
    return RootKey(root_id=expand(prk, ID_INFO, 16), kek=expand(prk, KEK_INFO, 32))


def _problem(value: str) -> str | None:
    if len(value) < MIN_SECRET_CHARACTERS:
        return f"must have at least {MIN_SECRET_CHARACTERS} characters"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "must be valid Unicode text: it holds half of a surrogate pair"
    return None


def extract(*, salt: bytes, key_material: bytes) -> bytes:
    """Return the pseudorandom key of HKDF-Extract with SHA-256 (RFC 5869 section 2.2)."""
    return HKDF.extract(SHA256(), salt, key_material)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes of HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    return HKDFExpand(SHA256(), length, info).derive(prk)
