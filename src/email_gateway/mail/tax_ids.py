"""CPF and CNPJ: one canonical spelling, checked digits, and the packed form that is sealed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import mul

from email_gateway.mail.encoding import InvalidValue

PACKED_OCTETS = 16
_LONGEST_INPUT = 32
_CPF = re.compile(r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}")
# Alphanumeric since July 2026 (IN RFB 2.229/2024); the check digits stay digits.
_CNPJ = re.compile(r"[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?[0-9]{2}")
_SHAPE = (
    "write a CPF (11 digits) or a CNPJ (12 letters or digits, then 2 digits), "
    "with or without the usual dots, slash and hyphen"
)


class InvalidTaxId(InvalidValue):
    """A tax id that is refused; the message says what to change and never repeats it."""


class TaxIdKind(IntEnum):
    """Whose number it is. The values are sealed and indexed: they never change."""

    CPF = 1
    CNPJ = 2


_CANONICAL = {
    TaxIdKind.CPF: re.compile(rb"[0-9]{11}"),
    TaxIdKind.CNPJ: re.compile(rb"[0-9A-Z]{12}[0-9]{2}"),
}


_PUNCTUATION = str.maketrans("", "", ".-/")
# What each character before a check digit counts for (IN RFB 2.229/2024, annex; the same rule for both).
_WEIGHTS = {
    TaxIdKind.CPF: (range(10, 1, -1), range(11, 1, -1)),
    TaxIdKind.CNPJ: ((5, 4, 3, 2, *range(9, 1, -1)), (6, 5, 4, 3, 2, *range(9, 1, -1))),
}


@dataclass(frozen=True, slots=True, repr=False)
class TaxId:
    """A valid CPF or CNPJ; `canonical` is digits and upper-case letters without punctuation.

    Packed, so that both kinds look alike once sealed::

         0      1        2 ................. 15
        kind  length     ASCII, then zero octets
    """

    kind: TaxIdKind
    canonical: str

    def __repr__(self) -> str:
        return f"TaxId({self.kind.name})"

    @property
    def masked(self) -> str:
        """Enough for a person to tell two apart, too little to look one up: the third group alone."""
        if self.kind is TaxIdKind.CPF:
            return f"***.***.{self.canonical[6:9]}-**"
        return f"**.***.{self.canonical[5:8]}/****-**"

    def pack(self) -> bytes:
        """Return the 16 octets that are sealed."""
        ascii_form = self.canonical.encode("ascii")
        return bytes((self.kind, len(ascii_form))) + ascii_form.ljust(PACKED_OCTETS - 2, b"\0")


def parse_tax_id(text: str) -> TaxId:
    """Read a CPF or CNPJ, with or without its usual punctuation; raises `InvalidTaxId`.

    Letters of a CNPJ may be lower case. Nothing else is forgiven: white space inside the number or
    digits of another script would be second spellings of one person, which no blind index finds.
    """
    # Before `upper`, which turns some characters outside ASCII (U+0131) into letters inside it.
    if len(text) > _LONGEST_INPUT or not text.isascii():
        raise InvalidTaxId(_SHAPE)
    text = text.strip(" ").upper()
    if _CPF.fullmatch(text):
        kind = TaxIdKind.CPF
    elif _CNPJ.fullmatch(text):
        kind = TaxIdKind.CNPJ
    else:
        raise InvalidTaxId(_SHAPE)
    canonical = text.translate(_PUNCTUATION)
    if canonical == canonical[0] * len(canonical):
        # 111.111.111-11 and its like pass the arithmetic but are never issued.
        raise InvalidTaxId("check the number: none consists of one digit alone")
    if not _has_its_check_digits(kind, canonical.encode("ascii")):
        raise InvalidTaxId("check the number: its last two digits do not belong to the others")
    return TaxId(kind, canonical)


def unpack_tax_id(packed: bytes) -> TaxId:
    """Read the 16 octets that `TaxId.pack` wrote; raises ValueError for anything else.

    Check digits are not looked at again: what was sealed once must stay readable.
    """
    if len(packed) != PACKED_OCTETS or packed[0] not in _CANONICAL:
        raise ValueError("not a packed tax id")
    kind, length = TaxIdKind(packed[0]), packed[1]
    canonical, padding = packed[2 : 2 + length], packed[2 + length :]
    if len(canonical) != length or padding.strip(b"\0") or not _CANONICAL[kind].fullmatch(canonical):
        raise ValueError("not a packed tax id")
    return TaxId(kind, canonical.decode("ascii"))


def _has_its_check_digits(kind: TaxIdKind, number: bytes) -> bool:
    return all(
        number[len(weights)] - ord("0") == _check_digit(number[: len(weights)], weights) for weights in _WEIGHTS[kind]
    )


def _check_digit(characters: bytes, weights: Sequence[int]) -> int:
    """Return the check digit behind `characters`; each counts for its ASCII code less 48, letters too."""
    rest = (sum(map(mul, characters, weights)) - ord("0") * sum(weights)) % 11
    return 0 if rest < 2 else 11 - rest
