"""PASETO's pre-authentication encoding: several byte strings become one that cannot be read another way."""

from struct import Struct

LE64 = Struct("<Q")


def pae(*pieces: bytes) -> bytes:
    """Encode the pieces as LE64(count), then LE64(length) and the bytes of each (PASETO, "PAE Definition").

    No two different lists of pieces encode alike, so nothing can move across the border of two.
    """
    return LE64.pack(len(pieces)) + b"".join([LE64.pack(len(piece)) + piece for piece in pieces])
