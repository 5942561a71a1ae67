"""The search for marks finds what it must, and nothing else."""

import base64
import binascii
import itertools
import os
import quopri
import urllib.parse
from collections.abc import Callable

import pytest

from email_gateway.mail.tax_ids import parse_tax_id
from tests.marks import MARK, find_marks, forms_of, marked, tax_ids, unfold


def every_byte_quoted(data: bytes) -> bytes:
    return b"".join(b"=%02X" % byte for byte in data)


def every_byte_percented(data: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in data)


ENCODINGS: list[Callable[[bytes], bytes]] = [
    bytes,
    bytes.upper,
    binascii.hexlify,
    lambda data: binascii.hexlify(data).upper(),
    base64.b64encode,
    base64.urlsafe_b64encode,
    quopri.encodestring,
    every_byte_quoted,
    lambda data: urllib.parse.quote(data, safe="").encode(),
    every_byte_percented,
    lambda data: data.decode().encode("utf-16-le"),
    lambda data: data.decode().encode("utf-16-be"),
    lambda data: data[::-1],
]


@pytest.mark.parametrize("encode", ENCODINGS)
@pytest.mark.parametrize("mark", [MARK, "52998224725", "a-secret_of~32.characters/or+more"])
def test_a_mark_is_found_in_every_encoding_and_at_every_alignment(encode: Callable[[bytes], bytes], mark: str) -> None:
    for before, after in itertools.product((b"", b"x", b"xy", b"xyz"), (b"", b"t", b"ta", b"tail")):
        assert find_marks(b"--" + encode(before + mark.encode() + after) + b"--", ["another mark", mark])


def test_a_finding_says_where() -> None:
    (finding,) = find_marks(b"line\n" + MARK.encode().hex().encode(), [MARK])
    assert (finding.mark, finding.encoding, finding.offset) == (MARK, "hex", 5)


def test_a_mark_across_a_line_break_is_found_once_the_lines_are_joined() -> None:
    for cut in range(1, len(MARK)):
        assert find_marks(unfold(f"{MARK[:cut]}=\r\n{MARK[cut:]}".encode()), [MARK])
    wrapped = base64.encodebytes(b"x" * 52 + MARK.encode() + b"x" * 20)
    assert not find_marks(wrapped, [MARK])
    assert find_marks(unfold(wrapped), [MARK])


def test_random_bytes_hold_no_mark() -> None:
    assert not find_marks(os.urandom(1_000_000), [MARK, *itertools.islice(tax_ids(), 4)])
    assert all(len(form) >= len(MARK) for form in forms_of(MARK).values())


def test_tax_ids_are_valid_and_of_both_kinds() -> None:
    kinds = [parse_tax_id(tax_id).kind.name for tax_id in itertools.islice(tax_ids(), 20)]
    assert kinds == ["CPF", "CNPJ"] * 10


def test_marked_strings_differ_and_carry_the_mark() -> None:
    first, second = marked("to"), marked("to")
    assert first != second
    assert MARK in first
    assert "to" in first
