"""Seal and open a file in the age format (https://age-encryption.org/v1); the one file that imports the library.

Any other program of that format opens what is sealed here. Errors say what is wrong and quote nothing, since
people put a secret where a public key belongs.
"""

from collections.abc import Sequence
from typing import TypeAlias

import pyrage
from pyrage import passphrase as by_passphrase
from pyrage import x25519

from email_gateway.errors import OperationRefused

# A secret and a public key.
Identity: TypeAlias = x25519.Identity
Recipient: TypeAlias = x25519.Recipient

MAGIC = b"age-encryption.org/v1\n"
# A passphrase's stanza stands alone in its header (C2SP age.md, "The scrypt recipient type").
PASSPHRASE_STANZA = MAGIC + b"-> scrypt "
IDENTITY_PREFIX = "AGE-SECRET-KEY-"
# What the library says when all is well with the file and the key is another one.
WRONG_KEY = ("No matching keys found", "Decryption failed")
TOO_MUCH_WORK = "Excessive work parameter"
# A guess at a passphrase costs a second or two here, and much less for whoever wants a root key badly.
FEWEST_CHARACTERS = 16


def parse_recipient(text: str) -> Recipient:
    """Return the public key that a file is sealed for; raises ValueError, which quotes nothing."""
    if text.upper().startswith(IDENTITY_PREFIX):
        raise ValueError("is a secret key: give its public key, `age-keygen -y KEY_FILE` prints it")
    try:
        return x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise ValueError("is no age public key: it must look like age1..., in full") from None


def parse_identities(text: str) -> list[Identity]:
    """Return the secret keys in a file as `age-keygen` writes it; raises ValueError, which quotes nothing."""
    lines = [line.strip() for line in text.splitlines()]
    identities = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        try:
            identities.append(Identity.from_str(line))
        except pyrage.IdentityError:
            raise ValueError(
                f"has no age secret key in line {number}: it must look like {IDENTITY_PREFIX}1..."
            ) from None
    if not identities:
        raise ValueError("holds no age secret key")
    return identities


def check_passphrase(passphrase: str) -> str:
    """Return a passphrase that is long enough to seal with; raises ValueError otherwise."""
    if len(passphrase) < FEWEST_CHARACTERS:
        raise ValueError(f"must have at least {FEWEST_CHARACTERS} characters: take several words at random")
    return passphrase


def seal_for(recipients: Sequence[Recipient], plaintext: bytes) -> bytes:
    """Seal for these public keys, each of whose secret keys opens it."""
    sealed: bytes = pyrage.encrypt(plaintext, list(recipients))
    return sealed


def seal_with(passphrase: str, plaintext: bytes) -> bytes:
    """Seal with a passphrase; takes a second or two, so that guessing does too (scrypt, RFC 7914)."""
    sealed: bytes = by_passphrase.encrypt(plaintext, passphrase)
    return sealed


def needs_passphrase(sealed: bytes) -> bool:
    """Tell whether a passphrase opens the file, and not a secret key; raises OperationRefused for another kind of file."""
    if not sealed.startswith(MAGIC):
        raise OperationRefused(
            "the file is no age file in binary form", "name the file that `email-gateway secrets export` wrote"
        )
    return sealed.startswith(PASSPHRASE_STANZA)


def open_by(identities: Sequence[Identity], sealed: bytes) -> bytes:
    """Open a file with one of these secret keys; raises OperationRefused."""
    try:
        plaintext: bytes = pyrage.decrypt(sealed, list(identities))
    except pyrage.DecryptError as error:
        failed = str(error)
    else:
        return plaintext
    raise _explain(failed, "none of the secret keys given opens the file", "give the one whose public key it is for")


def open_with(passphrase: str, sealed: bytes) -> bytes:
    """Open a file with its passphrase; raises OperationRefused."""
    try:
        plaintext: bytes = by_passphrase.decrypt(sealed, passphrase)
    except pyrage.DecryptError as error:
        failed = str(error)
    else:
        return plaintext
    raise _explain(failed, "this passphrase does not open the file", "mind capitals and the keyboard's layout")


def _explain(failed: str, wrong_key: str, next_step: str) -> OperationRefused:
    if failed.startswith(WRONG_KEY):
        return OperationRefused(wrong_key, next_step)
    if failed.startswith(TOO_MUCH_WORK):
        return OperationRefused("a much faster machine has sealed the file", "open it on one that is about as fast")
    return OperationRefused("the file was cut short or changed", "take another copy of it")
