"""JSON into typed structs, and what was wrong with it in our own words.

msgspec's messages quote what was sent, so none of them passes: their shape and path are read, and
the words are ours. A key that is given twice counts the last time, as most JSON readers have it.
"""

import re
from typing import Any, Generic, TypeVar

import msgspec

from email_gateway.api.calls import A_MOMENT
from email_gateway.api.problems import UnsupportedMediaType
from email_gateway.errors import Fault, InvalidRequest

T = TypeVar("T")

_AT = re.compile(r" - at `(key )?\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<name>[A-Za-z_]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>[A-Za-z_]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[A-Za-z][A-Za-z0-9_-]{0,63})`")
_BOUND = re.compile(r"Expected `(?P<kind>\w+)`(?P<length> of length)? (?P<operator><=|>=) (?P<number>\d+)")
_TYPE = re.compile(r"Expected `(?P<kinds>[a-z| ]+)`")
# NUL as JSON can spell it: an odd number of backslashes, or it is a backslash before "u0000". The
# look-behind keeps this linear: only the first backslash of a run is tried.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# A full message has fewer, and those of a full batch may have 200 strings each; each string or container becomes an object of some sixty bytes,
# each number of a file that is sent as numbers one of eight or more.
FEW_VALUES_BYTES = 64 * 1024
MOST_STRINGS = 200_000
MOST_CONTAINERS = 100_000
MOST_NUMBERS = 2_000_000

WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
# Fields of Resend's API that are known, and refused, because what they ask for would not happen.
NOT_YET = frozenset({"topic_id", "metadata"})
ADVICE = {
    "path": "send the file itself in `content`: the gateway never fetches files",
    "on_doubt": 'use "resend" or "hold"',
    "status": "use the state of a delivery: scheduled, queued, sending, delivered, kept, bounced, expired, suppressed,"
    " cancelled or dead",
    "created_after": A_MOMENT,
    "created_before": A_MOMENT,
}


class BodyDecoder(Generic[T]):
    """Decodes bodies of one type; made once, used for every request."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | bytearray | msgspec.Raw, at: str = "") -> T:
        """Return the decoded body; raises InvalidRequest with a pointer that begins with `at`."""
        try:
            decoded = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _refusal(_translate(str(error), at)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _refusal(Fault(at, "send valid JSON in UTF-8")) from None
        except RecursionError:
            raise _refusal(Fault(at, "nest the JSON less deeply")) from None
        return decoded


def check_json(headers: dict[bytes, bytes], body: bytes | bytearray) -> None:
    """Refuse what must not reach a decoder: other types, compressed bodies, NUL in any string, and too many values."""
    kind = headers.get(b"content-type")
    if kind is not None and kind != b"application/json" and not _is_json(kind):
        raise UnsupportedMediaType("send the body as application/json")
    if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
        raise UnsupportedMediaType("send the body uncompressed")
    if not body:
        raise _refusal(Fault("", "send a JSON body"))
    # Raw NUL is not JSON; escaped it is, and PostgreSQL and mail refuse it.
    if b"\\u0000" in body and _ESCAPED_NUL.search(body):
        raise _refusal(Fault("", "remove U+0000 from the strings"))
    if len(body) > FEW_VALUES_BYTES:
        _check_values(body)


def _check_values(body: bytes | bytearray) -> None:
    """Refuse a body of more values than any message has, before a decoder makes an object of each.

    Walks from string to string: what stands between two is counted, what stands in one is not
    looked at. So a file in base64 is one step, and a map of a million headers ends early.
    """
    strings = numbers = containers = 0
    at = 0
    while True:
        opening = body.find(b'"', at)
        end = len(body) if opening < 0 else opening
        numbers += body.count(b",", at, end)
        containers += body.count(b"{", at, end) + body.count(b"[", at, end)
        if strings > MOST_STRINGS or containers > MOST_CONTAINERS or numbers > MOST_NUMBERS:
            raise _refusal(
                Fault("", "send fewer values: files as base64, and within the limits of recipients, headers and tags")
            )
        if opening < 0:
            return
        strings += 1
        at = _end_of_string(body, opening + 1)


def _end_of_string(body: bytes | bytearray, at: int) -> int:
    while (closing := body.find(b'"', at)) >= 0:
        if not body.endswith(b"\\", at, closing):  # nearly always, and without a copy
            return closing + 1
        before = body[at:closing]
        if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:  # an escaped one has an odd number before it
            return closing + 1
        at = closing + 1
    return len(body)


def _is_json(kind: bytes) -> bool:
    name, _, parameters = kind.lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    return name.strip() == b"application/json" and charset in (b"", b"utf-8", b"utf8")


def _refusal(fault: Fault) -> InvalidRequest:
    return InvalidRequest("the body is not valid", (fault,))


def _translate(text: str, at: str) -> Fault:
    pointer = at
    if match := _AT.search(text):
        text = text[: match.start()]
        for step in _STEP.finditer(match["path"]):
            if step["name"] is None and step["index"] is None:
                break  # a key of a map was sent by the caller; msgspec does not say which
            pointer += f"/{step['name'] or step['index']}"
    if match := _MISSING.match(text):
        return Fault(f"{pointer}/{match['name']}", "add this field: it is required", is_missing=True)
    if text.startswith("Object contains unknown field"):
        return _unknown_field(text, pointer)
    if match := _BOUND.match(text):
        return Fault(pointer, _bound(match))
    if match := _TYPE.match(text):
        kinds = [WORDS[kind] for kind in match["kinds"].split(" | ") if kind in WORDS]
        return Fault(pointer, f"send {' or '.join(kinds)}" if kinds else "correct the type of this value")
    return Fault(pointer, ADVICE.get(pointer.rpartition("/")[2], "correct this value"))


def _unknown_field(text: str, pointer: str) -> Fault:
    match = _UNKNOWN.fullmatch(text)
    if match is None:
        return Fault(pointer, "remove the field whose name is not a plain word: it is not known here")
    name = match["name"]
    if name in NOT_YET:
        return Fault(f"{pointer}/{name}", "leave this field out: it is not supported yet")
    return Fault(f"{pointer}/{name}", ADVICE.get(name, "remove this field: it is not known here"))


def _bound(match: re.Match[str]) -> str:
    most, number = match["operator"] == "<=", match["number"]
    if not match["length"]:
        return f"use a number of at {'most' if most else 'least'} {number}"
    unit = "characters" if match["kind"] == "str" else "entries"
    return f"give at {'most' if most else 'least'} {number} {unit}"
