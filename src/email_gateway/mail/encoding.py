"""How text becomes octets on the wire: which characters may pass, encoded words, folding, body encodings.

Nothing here decides what a caller may send; `headers` and `addresses` do. What reaches a header
from here is ASCII without CR, LF or NUL, whatever the caller did; only an address may hold UTF-8.
"""

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from urllib.parse import quote

MAX_LINE_OCTETS = 998  # RFC 5322 section 2.1.1, without the CRLF
FOLDED_LINE_OCTETS = 76  # RFC 2047 section 2, and within the 78 of RFC 5322 section 2.1.1
MAX_ENCODED_WORD = 75  # RFC 2047 section 2
BASE64_COLUMNS = 76  # RFC 2045 section 6.8

_C0 = r"\x00-\x1f"
_C0_BUT_TAB = r"\x00-\x08\x0a-\x1f"
# DEL, C1, the two Unicode line separators, and lone surrogates, which no UTF-8 can carry.
_BREAKING = r"\x7f-\x9f\u2028\u2029\ud800-\udfff"
_OVERRIDES = r"\u202a-\u202e"
_MARKS_AND_ISOLATES = r"\u061c\u200e\u200f\u2066-\u2069"

UNSAFE_IN_NAMES = re.compile(f"[{_C0}{_BREAKING}{_OVERRIDES}{_MARKS_AND_ISOLATES}]")
# In a subject, marks and isolates are part of honest right-to-left writing; embeddings and
# overrides (which Unicode advises against) can make a text read as something it is not.
UNSAFE_IN_TEXT = re.compile(f"[{_C0_BUT_TAB}{_BREAKING}{_OVERRIDES}]")
_UNSAFE_ON_THE_WIRE = re.compile(f"[{_C0_BUT_TAB}{_BREAKING}]")

_PLAIN = re.compile(r"[\t\x20-\x7e]*")
_PLAIN_BODY = re.compile(r"[\t\n\x20-\x7e]*")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+")
_ASCII = bytes(range(128))
_CONTINUATION = range(0x80, 0xC0)  # octets of UTF-8 that begin no character
_LEAST_WORD_OCTETS = 6  # holds any one character
_LONGEST_PIECE = 900  # with any field name before it, still within MAX_LINE_OCTETS
_WORD_FRAME = len("=?utf-8?B??=")
_NAME_ROOM = 64  # an encoded word this long still fits behind "Reply-To: "
_ATTRIBUTE_CHARACTERS = "!#$&+^`{}|"  # RFC 5987 section 3.2.1, beside what `quote` always leaves
_PARAMETER_COLUMNS = 60


class InvalidValue(ValueError):
    """A value that mail cannot carry; the message says what to change and never repeats the value."""


def encoded_words(text: str, room: int = MAX_ENCODED_WORD) -> list[str]:
    """Return `text` as RFC 2047 encoded words; the first is at most `room` long, but for one character.

    No word ends inside a character (section 5): receivers decode word by word.
    """
    data = text.encode()
    first = (min(room, MAX_ENCODED_WORD) - _WORD_FRAME) // 4 * 3
    rest = (MAX_ENCODED_WORD - _WORD_FRAME) // 4 * 3
    size = max(first, _LEAST_WORD_OCTETS)
    words, start = [], 0
    while start < len(data):
        end = start + size
        while end < len(data) and data[end] in _CONTINUATION:
            end -= 1
        words.append(f"=?utf-8?B?{b2a_base64(data[start:end], newline=False).decode()}?=")
        start, size = end, rest
    return words


def fold(name: str, pieces: Sequence[str], *, takes_utf8: bool = False) -> str:
    """Return the header field with its CRLF, broken only between pieces and near column 76.

    Pieces are never empty, so no line is white space alone. The first stands beside the name at any
    length: readers differ on whether the white space of a fold there belongs to the value. Only what no
    encoded word can carry stands in UTF-8 (RFC 6532 section 3.2), for servers that offer SMTPUTF8.
    """
    lines, line = [], f"{name}: {pieces[0]}" if pieces else f"{name}:"
    for piece in pieces[1:]:
        if len(line) + 1 + len(piece) > FOLDED_LINE_OCTETS:
            lines.append(line)
            line = f" {piece}"
        else:
            line = f"{line} {piece}"
    lines.append(f"{line}\r\n")
    field = "\r\n".join(lines)
    if not takes_utf8 and not field.isascii():
        raise InvalidValue("a header field holds characters outside ASCII")
    return field


def unstructured_pieces(text: str, room: int) -> list[str]:
    """Split free text for `fold` so that unfolding gives it back exactly, encoding it where it must be.

    `room` is what the first line has left. Text that a reader would change (outer white space,
    a run of spaces at a fold, something that looks like an encoded word) is encoded as well.
    """
    refuse_on_the_wire(text)
    if not text:
        return []
    if _PLAIN.fullmatch(text) and "=?" not in text and text.strip(" \t") == text:
        if len(text) <= room:
            return [text]
        words = text.split(" ")
        if "\t" not in text and "  " not in text and max(map(len, words)) <= _LONGEST_PIECE:
            return words
    return encoded_words(text, room)


def phrase_pieces(name: str) -> list[str]:
    """Return a display name as atoms, a quoted string, or atoms and encoded words, ready for `fold`.

    Only the words that need it are encoded: some readers show a gap between adjacent encoded
    words of a long name.
    """
    refuse_on_the_wire(name)
    # Readers collapse white space outside encoded words, so a name that depends on it is encoded whole.
    if "  " in name or "\t" in name or name.strip(" ") != name or len(name) > _LONGEST_PIECE // 2:
        return encoded_words(name, _NAME_ROOM)
    words = name.split(" ")
    if _PLAIN.fullmatch(name) and "=?" not in name:
        return words if all(map(_ATOM.fullmatch, words)) else quoted(name).split(" ")
    pieces: list[str] = []
    for plain, group in groupby(words, lambda word: _ATOM.fullmatch(word) is not None and "=?" not in word):
        run = list(group)
        pieces += run if plain else encoded_words(" ".join(run), _NAME_ROOM)
    return pieces


def quoted(text: str) -> str:
    """Return an RFC 5322 quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def extended_parameter(name: str, value: str) -> list[str]:
    """Return a MIME parameter as pieces: a quoted string in ASCII, else RFC 2231 in UTF-8.

    Sections end between characters, for readers that decode them one by one. Every piece but
    the last ends in a semicolon.
    """
    refuse_on_the_wire(value)
    if value.isascii():
        return [f"{name}={quoted(value)}"]
    sections = [""]
    for character in value:
        octets = quote(character, safe=_ATTRIBUTE_CHARACTERS)
        if len(sections[-1]) + len(octets) > _PARAMETER_COLUMNS - len(name):
            sections.append("")
        sections[-1] += octets
    if len(sections) == 1:
        return [f"{name}*=utf-8''{sections[0]}"]
    pieces = [f"{name}*{i}*={section};" for i, section in enumerate(sections)]
    pieces[0] = f"{name}*0*=utf-8''{sections[0]};"
    pieces[-1] = pieces[-1].removesuffix(";")
    return pieces


def encode_text(text: str) -> tuple[str, bytes]:
    """Return the transfer encoding of a text body and its octets, every line ended by CRLF.

    A lone CR or LF counts as a line end. `7bit` is chosen for printable ASCII whose lines fit and
    that holds no `=_`, with which every boundary begins; in quoted-printable and base64 that pair
    cannot occur. Mostly non-ASCII text goes as base64, which is then the shorter of the two.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _PLAIN_BODY.fullmatch(text) and "=_" not in text and max(map(len, text.split("\n"))) <= MAX_LINE_OCTETS:
        return "7bit", text.replace("\n", "\r\n").encode()
    refuse_in_body(text)
    data = text.encode()
    if 2 * len(data.translate(None, _ASCII)) > len(data):  # quoted-printable spends 3 octets on each of these
        return "base64", encode_base64(data.replace(b"\n", b"\r\n"))
    # b2a_qp ends soft line breaks as it finds the first line ended; with LF alone there is one answer.
    return "quoted-printable", b2a_qp(data, istext=True).replace(b"\n", b"\r\n")


def encode_base64(data: bytes) -> bytes:
    """Return base64 in lines of 76 columns, without a line end after the last."""
    line = b2a_base64(data, newline=False)
    return b"\r\n".join([line[i : i + BASE64_COLUMNS] for i in range(0, len(line), BASE64_COLUMNS)])


def refuse_in_body(text: str) -> None:
    """Refuse what no body can carry: NUL (RFC 5322 section 4.1) and lone surrogates."""
    if "\0" in text:
        raise InvalidValue("remove the NUL characters from the text")
    # Raised outside the handler: the original error holds the whole text, and must not travel as its context.
    with suppress(UnicodeEncodeError):
        text.encode()
        return
    raise InvalidValue("remove the unpaired surrogates from the text: it is not valid Unicode")


def refuse_on_the_wire(text: str) -> None:
    """Refuse what could end a header field early or cannot be encoded.

    The last guard, after the checks on what callers send: it holds for stored content as well.
    """
    if _UNSAFE_ON_THE_WIRE.search(text):
        raise InvalidValue("remove line breaks and control characters from the value")
