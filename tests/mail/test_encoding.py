"""Body encodings, folding and parameters: what goes out can be read back and never breaks a line rule."""

import base64
import quopri
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.encoding import (
    InvalidValue,
    encode_base64,
    encode_text,
    encoded_words,
    extended_parameter,
    fold,
    phrase_pieces,
    quoted,
)

READERS: dict[str, Callable[[bytes], bytes]] = {
    "7bit": bytes,
    "quoted-printable": quopri.decodestring,
    "base64": base64.b64decode,
}


def decoded(text: str) -> tuple[str, str]:
    transfer_encoding, data = encode_text(text)
    return transfer_encoding, READERS[transfer_encoding](data).decode()


@pytest.mark.parametrize(
    ("text", "transfer_encoding"),
    [
        ("", "7bit"),
        ("plain\nlines\twith tabs\n", "7bit"),
        ("a" * 998, "7bit"),
        ("a" * 999, "quoted-printable"),
        ("short\n" + "a" * 5000 + "\nshort", "quoted-printable"),
        ("--=_m0190", "quoted-printable"),
        ("a = b_c", "7bit"),
        ("um pouco não ASCII, quase todo legível", "quoted-printable"),
        ("escape \x1b and form feed \x0c", "quoted-printable"),
        ("delete \x7f", "quoted-printable"),
        ("日本語の請求書です", "base64"),
        ("😀" * 400, "base64"),
    ],
    ids=range(12),
)
def test_the_plainest_encoding_that_fits_is_chosen(text: str, transfer_encoding: str) -> None:
    assert decoded(text) == (transfer_encoding, text.replace("\n", "\r\n"))


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb"])
@pytest.mark.parametrize("kind", ["", "é", "日本語" * 9])
def test_every_line_end_becomes_crlf(text: str, kind: str) -> None:
    assert decoded(kind + text)[1] == kind + "a\r\nb"


def test_doubled_and_mixed_line_ends_stay_as_many() -> None:
    assert decoded("a\n\rb\r\r\nc")[1] == "a\r\n\r\nb\r\n\r\nc"


@pytest.mark.parametrize("text", ["\0", "a\0b", "a\ud800b", "é\0", "\udfff"])
def test_no_body_carries_nul_or_a_lone_surrogate(text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        encode_text(text)
    assert refusal.value.__context__ is None  # the codec's own error would hold the whole text


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")) | st.text(alphabet="=_ .-\té\r\nab"))
def test_any_other_body_is_read_back_and_holds_no_boundary(text: str) -> None:
    transfer_encoding, data = encode_text(text)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    assert READERS[transfer_encoding](data).decode() == expected
    assert b"=_" not in data
    assert data.isascii()
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
    assert max(map(len, data.split(b"\r\n"))) <= 998


def test_encoded_lines_stay_within_76_columns() -> None:
    for text in ("é" + "a" * 5000, "é " * 2000 + "a" * 20_000, "日本語" * 3000, "é" + " " * 500):
        assert max(map(len, encode_text(text)[1].split(b"\r\n"))) <= 76


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 80_000])
def test_base64_stands_in_lines_of_76_columns(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    encoded = encode_base64(data)
    assert base64.b64decode(encoded) == data
    lines = encoded.split(b"\r\n")
    assert all(len(line) == 76 for line in lines[:-1])
    assert len(lines[-1]) <= 76
    assert size == 0 or lines[-1]


def test_the_first_encoded_word_fits_the_room_and_the_others_75() -> None:
    words = encoded_words("é" * 100, room=40)
    assert len(words[0]) <= 40
    assert max(map(len, words)) <= 75
    assert len(encoded_words("😀", room=-50)) == 1


def test_a_name_is_encoded_only_where_it_must_be() -> None:
    assert phrase_pieces("Ana Maria") == ["Ana", "Maria"]
    assert phrase_pieces("Acme Inc.") == ['"Acme', 'Inc."']
    assert phrase_pieces("Companhia de Ações") == ["Companhia", "de", "=?utf-8?B?QcOnw7Vlcw==?="]
    # Readers collapse white space outside encoded words.
    assert phrase_pieces("a  b") == ["=?utf-8?B?YSAgYg==?="]
    assert phrase_pieces("=?utf-8?q?x?=") == ["=?utf-8?B?PT91dGYtOD9xP3g/PQ==?="]


def test_folding_breaks_between_pieces_only() -> None:
    assert fold("To", []) == "To:\r\n"
    assert fold("To", ["a", "b"]) == "To: a b\r\n"
    assert fold("To", ["a" * 70, "b" * 70, "c"]) == f"To: {'a' * 70}\r\n {'b' * 70} c\r\n"
    assert fold("X-" + "n" * 70, ["a" * 70]) == f"X-{'n' * 70}: {'a' * 70}\r\n"


def test_a_field_outside_ascii_is_never_written() -> None:
    with pytest.raises(InvalidValue):
        fold("To", ["é"])


def test_a_parameter_is_quoted_in_ascii_and_extended_outside() -> None:
    assert quoted('a "b" \\') == '"a \\"b\\" \\\\"'
    assert extended_parameter("filename", "a b.pdf") == ['filename="a b.pdf"']
    assert extended_parameter("filename", "nº 1.pdf") == ["filename*=utf-8''n%C2%BA%201.pdf"]
    sections = extended_parameter("filename", "ação" * 20)
    assert sections[0].startswith("filename*0*=utf-8''a%C3%A7%C3%A3o")
    assert sections[1].startswith("filename*1*=")
    assert all(section.endswith(";") for section in sections[:-1])
    assert not sections[-1].endswith(";")
    assert max(map(len, sections)) <= 75
