"""Marks: strings that stand for personal data in tests, and the search for them in any bytes.

Everything personal that a flow test sends carries `MARK`; wherever it turns up, in clear or in an
encoding that anyone could undo, something leaked.
"""

import base64
import itertools
import random
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stdnum.br import cnpj, cpf

MARK = "Zq9Marked"

# Quoted-printable and base64 break their lines, and so may break a mark.
_FOLD = re.compile(rb"=?\r?\n")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Finding:
    """A mark that turned up, and where; `offset` counts bytes."""

    mark: str
    encoding: str
    offset: int


def forms_of(mark: str) -> dict[str, bytes]:
    """Return the mark as it looks in each encoding, at each alignment of base64."""
    raw = mark.encode()
    return {
        "clear": raw,
        "hex": raw.hex().encode(),
        "quoted-printable": b"".join(b"=%02X" % byte for byte in raw),
        "percent-encoded": urllib.parse.quote(mark, safe="").encode(),
        "percent-encoded throughout": b"".join(b"%%%02X" % byte for byte in raw),
        "utf-16-le": mark.encode("utf-16-le"),
        "utf-16-be": mark.encode("utf-16-be"),
        "reversed": raw[::-1],
        **_base64_forms(raw),
    }


def _base64_forms(raw: bytes) -> dict[str, bytes]:
    forms = {}
    for shift in range(3):
        # The characters at both ends depend on the neighbours: only the inner ones are the mark's own.
        first, last = (shift * 8 + 5) // 6, (shift + len(raw)) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            forms[f"{name} at {shift}"] = encode(bytes(shift) + raw + bytes(2))[first:last]
    return forms


def find_marks(haystack: bytes, marks: Iterable[str]) -> list[Finding]:
    """Return every mark that turns up, once for each encoding, whatever its letters' case."""
    lowered = haystack.lower()
    found = []
    for mark in marks:
        for encoding, form in forms_of(mark).items():
            is_exact = encoding.startswith("base64")  # there, case is part of the value
            offset = haystack.find(form) if is_exact else lowered.find(form.lower())
            if offset >= 0 and (encoding == "clear" or form != mark.encode()):
                found.append(Finding(mark, encoding, offset))
    return found


def unfold(text: bytes) -> bytes:
    """Return text with its line breaks removed, soft ones of quoted-printable too."""
    return _FOLD.sub(b"", text)


def marked(field: str) -> str:
    """Return a new string that carries `MARK` and names its field, fit for an address's local part."""
    return f"{field}.{MARK}.{next(_numbers)}"


def tax_ids() -> Iterator[str]:
    """Yield valid tax ids, a CPF and a CNPJ in turn: their digits are the mark, since no letters fit."""
    while True:
        for is_valid, free in ((cpf.is_valid, 9), (cnpj.is_valid, 12)):
            # No leading zero: what takes it for a number would drop it.
            digits = str(random.randrange(10 ** (free - 1), 10**free))
            yield next(number for check in range(100) if is_valid(number := f"{digits}{check:02}"))
