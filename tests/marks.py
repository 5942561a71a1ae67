"""Marks: strings that stand for personal data in tests, and the search for them in any bytes.

Everything personal that a flow test sends carries `MARK`; wherever it turns up in clear, base64,
hex or quoted-printable, something leaked.
"""

import base64
import binascii

MARK = "Zq9Marked"


def forms_of(mark: str) -> dict[str, bytes]:
    """Return the mark as it would look in each encoding, at each alignment of base64."""
    raw = mark.encode()
    forms = {
        "clear": raw,
        "hex": raw.hex().encode(),
        "upper hex": raw.hex().upper().encode(),
        "quoted-printable": "".join(f"={byte:02X}" for byte in raw).encode(),
        "utf-16": mark.encode("utf-16-le"),
        "reversed": raw[::-1],
    }
    for shift in range(3):
        # The characters at both ends depend on the neighbours: only the inner ones are the mark's own.
        encoded = base64.b64encode(bytes(shift) + raw + bytes(2))
        first = (shift * 8 + 5) // 6
        forms[f"base64 at {shift}"] = encoded[first : first + (len(raw) * 8) // 6 - 1]
    if not raw.isalpha():
        forms["percent-encoded"] = "".join(f"%{byte:02X}" for byte in raw).encode()
    return forms


def find_marks(haystack: bytes, marks: list[str]) -> list[str]:
    """Return `mark in encoding` for every mark that turns up, whatever its letters' case."""
    lowered = haystack.lower()
    return [
        f"{mark!r} in {name}"
        for mark in marks
        for name, form in forms_of(mark).items()
        if (form in haystack if name.startswith("base64") else form.lower() in lowered)
    ]


def test_every_encoding_of_a_mark_is_found() -> None:
    mark = MARK + "77"
    for shift in range(3):
        padded = b"x" * shift + mark.encode() + b"tail"
        for encoded in (padded, base64.b64encode(padded), binascii.hexlify(padded), padded.upper()):
            assert find_marks(b"--" + encoded + b"--", [mark])
    assert not find_marks(b"nothing of the kind", [mark])
