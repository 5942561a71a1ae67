"""CPF and CNPJ: one canonical spelling, checked digits, and the packed form that is sealed."""

import re
from dataclasses import dataclass
from enum import IntEnum

from stdnum.br import cnpj, cpf
from stdnum.exceptions import ValidationError

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

    Letters of a CNPJ may be lower case. The patterns stand before the library because it takes
    digits of other scripts, and strips white space inside the number: second spellings of one
    person, which no blind index would find.
    """
    # Before `upper`, which turns some characters outside ASCII (U+0131) into letters inside it.
    if len(text) > _LONGEST_INPUT or not text.isascii():
        raise InvalidTaxId(_SHAPE)
    text = text.strip(" ").upper()
    try:
        if _CPF.fullmatch(text):
            return TaxId(TaxIdKind.CPF, _check_cpf(text))
        if _CNPJ.fullmatch(text):
            return TaxId(TaxIdKind.CNPJ, cnpj.validate(text))
    except ValidationError as error:
        raise InvalidTaxId("check the number: its last two digits do not belong to the others") from error
    raise InvalidTaxId(_SHAPE)


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


def _check_cpf(text: str) -> str:
    canonical = cpf.compact(text)
    # 111.111.111-11 and its like pass the arithmetic but are never issued.
    if canonical == canonical[0] * len(canonical):
        raise InvalidTaxId("check the number: no CPF repeats one digit eleven times")
    return cpf.validate(canonical)
