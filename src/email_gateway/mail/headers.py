"""What callers may put into headers and attachment fields, and how header fields are written.

`parse_*` checks what a caller sent and raises `InvalidHeader` with advice; `*_field` writes, and
refuses again whatever could break out of a field, so stored content is guarded too.
"""

import re
from collections.abc import Sequence

from email_gateway.mail.content import Address
from email_gateway.mail.encoding import (
    FOLDED_LINE_OCTETS,
    UNSAFE_IN_NAMES,
    UNSAFE_IN_TEXT,
    InvalidValue,
    encoded_words,
    extended_parameter,
    fold,
    phrase_pieces,
    quoted,
    refuse_in_body,
    unstructured_pieces,
)

MAX_SUBJECT_CHARACTERS = 998  # RFC 5322 section 2.1.1 has no longer line; ours is folded
MAX_VALUE_CHARACTERS = 998
MAX_FILENAME_OCTETS = 255  # NAME_MAX of common file systems
MAX_CONTENT_TYPE_CHARACTERS = 255
DEFAULT_CONTENT_TYPE = "application/octet-stream"

_LONGEST_ENDING = 16
# Path separators, and what Windows refuses in names; readers also differ on quotes and angle brackets.
_NOT_IN_FILENAMES = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))
# A leading dot hides a file, a trailing one or white space is lost on some systems and by some readers.
_EDGES = "." + "".join(character for character in map(chr, range(0x3001)) if character.isspace())

_NAME = re.compile(r"[A-Za-z0-9-]{1,76}")
# The gateway writes these itself, or a relay does; a second one, or a forged one, misleads readers.
_REFUSED_NAMES = frozenset(
    {
        "apparently-to",
        "authentication-results",
        "bcc",
        "cc",
        "date",
        "delivered-to",
        "domainkey-signature",
        "from",
        "message-id",
        "mime-version",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-original-to",
    }
)
_REFUSED_PREFIXES = ("arc-", "content-", "dkim-", "received", "resent-")

_MIME_WORD = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,127}"  # RFC 2045 section 5.1: a token
_CONTENT_TYPE = re.compile(
    rf'({_MIME_WORD}/{_MIME_WORD})((?:[ \t]*;[ \t]*{_MIME_WORD}=(?:{_MIME_WORD}|"[ !#-\[\]-~]{{0,127}}"))*)[ \t]*;?[ \t]*'
)
_PARAMETER_NAME = re.compile(r";[ \t]*([^=]+)=")
_REFUSED_PARAMETERS = ("name", "boundary")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$&'*+./=?@^_`{|}~-]{1,128}")
# What transactional mail attaches. Python's `mimetypes` would read the machine's own tables.
_TYPES_BY_ENDING = {
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "odt": "application/vnd.oasis.opendocument.text",
    "p7s": "application/pkcs7-signature",
    "pdf": "application/pdf",
    "png": "image/png",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "webp": "image/webp",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "zip": "application/zip",
}
_PARAMETER_ROOM = 68  # an encoded word this long leaves room for `name=` and its quotes
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\u00a1-\U0010ffff]+@[A-Za-z0-9.-]+")


class InvalidHeader(InvalidValue):
    """A header, subject or attachment field that is refused; the message never repeats its value."""


def parse_subject(text: str) -> str:
    """Return the subject as given, or raise `InvalidHeader`. Empty is allowed."""
    if len(text) > MAX_SUBJECT_CHARACTERS:
        raise InvalidHeader(f"shorten the subject to {MAX_SUBJECT_CHARACTERS} characters")
    if UNSAFE_IN_TEXT.search(text):
        raise InvalidHeader("remove line breaks, control characters and text-direction overrides from the subject")
    return text


def parse_header(name: str, value: str) -> tuple[str, str]:
    """Return one custom header as given, or raise `InvalidHeader`."""
    parse_header_name(name)
    if len(value) > MAX_VALUE_CHARACTERS:
        raise InvalidHeader(f"shorten the header's value to {MAX_VALUE_CHARACTERS} characters")
    if UNSAFE_IN_TEXT.search(value):
        raise InvalidHeader(
            "remove line breaks, control characters and text-direction overrides from the header's value"
        )
    return name, value


def parse_header_name(name: str) -> str:
    """Return a custom header's name as given, or raise `InvalidHeader`."""
    if not _NAME.fullmatch(name):
        raise InvalidHeader("write header names with 1 to 76 ASCII letters, digits and hyphens")
    lowered = name.lower()
    if lowered in _REFUSED_NAMES or lowered.startswith(_REFUSED_PREFIXES):
        raise InvalidHeader("leave this header out: the gateway writes it, or it has a field of its own")
    return name


def parse_body(text: str) -> str:
    """Return a text or HTML body as given, or raise `InvalidValue` for NUL and lone surrogates."""
    refuse_in_body(text)
    return text


def parse_content_type(text: str | None, filename: str = "") -> str:
    """Return an attachment's content type, guessed from the ending of `filename` when None or empty.

    Raises `InvalidHeader`. `multipart/*` and `message/*` are refused because base64 is not
    allowed in them (RFC 2045 section 6.4).
    """
    if not text:
        return _TYPES_BY_ENDING.get(filename.rpartition(".")[2].lower(), DEFAULT_CONTENT_TYPE)
    match = _CONTENT_TYPE.fullmatch(text) if len(text) <= MAX_CONTENT_TYPE_CHARACTERS else None
    if match is None:
        raise InvalidHeader("write the content type as type/subtype, such as application/pdf")
    if match[1].lower().startswith(("multipart/", "message/")):
        raise InvalidHeader("attach messages and multiparts as application/octet-stream")
    names = [name.lower() for name in _PARAMETER_NAME.findall(match[2])]
    if any(name.startswith(_REFUSED_PARAMETERS) for name in names) or len(set(names)) < len(names):
        raise InvalidHeader("leave name and boundary out of the content type, and give each parameter once")
    return text.rstrip("; \t")


def parse_content_id(text: str) -> str:
    """Return an inline attachment's id without angle brackets, or raise `InvalidHeader`."""
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    if not _CONTENT_ID.fullmatch(text):
        raise InvalidHeader("write the content id with 1 to 128 ASCII letters, digits and punctuation, without spaces")
    return text


def safe_filename(text: str) -> str:
    """Return a file name that is only a name: no path, controls or direction marks, 255 octets at most.

    Never refuses: a name is made safe, `attachment` when nothing is left of it, and its ending is kept.
    """
    text = UNSAFE_IN_NAMES.sub("", text).translate(_NOT_IN_FILENAMES).strip(_EDGES)
    if len(text.encode()) <= MAX_FILENAME_OCTETS:
        return text or "attachment"
    stem, dot, ending = text.rpartition(".")
    tail = dot + ending if stem and len(ending) <= _LONGEST_ENDING and ending.isascii() else ""
    stem = stem if tail else text
    kept = stem.encode()[: MAX_FILENAME_OCTETS - len(tail)].decode(errors="ignore")
    return (kept + tail).rstrip(_EDGES)


def unstructured_field(name: str, text: str) -> str:
    """Return a field of free text, folded, in encoded words where it is not ASCII."""
    return fold(name, unstructured_pieces(text, FOLDED_LINE_OCTETS - len(name) - 2))


def address_field(name: str, addresses: Sequence[Address]) -> str:
    """Return a field of addresses, folded between them and inside long names.

    An address beyond ASCII stands in UTF-8 (RFC 6532 section 3.2): the message needs SMTPUTF8 then.
    """
    pieces: list[str] = []
    for address in addresses:
        if not _ADDRESS.fullmatch(address.email) or UNSAFE_IN_NAMES.search(address.email):
            raise InvalidHeader("an address is not in the form that the gateway stores")
        if address.name:
            pieces += phrase_pieces(address.name)
            pieces.append(f"<{address.email}>,")
        else:
            pieces.append(f"{address.email},")
    if pieces:
        pieces[-1] = pieces[-1].removesuffix(",")
    return fold(name, pieces, takes_utf8=True)


def content_type_field(content_type: str, filename: str) -> str:
    """Return an attachment's Content-Type, with the file's name for readers that look for it there.

    Outside ASCII that is the `name="=?utf-8?B?...?="` which RFC 2047 section 5 forbids and older
    readers expect; Content-Disposition carries the correct form (RFC 2231), and readers prefer it.
    """
    if filename.isascii():
        name = [f"name={quoted(filename)}"]
    else:
        name = f"name={quoted(' '.join(encoded_words(filename, _PARAMETER_ROOM)))}".split(" ")
    return fold("Content-Type", [f"{parse_content_type(content_type)};", *name])


def disposition_field(kind: str, filename: str) -> str:
    """Return the Content-Disposition of an attachment, with its file's name."""
    return fold("Content-Disposition", [f"{kind};", *extended_parameter("filename", filename)])
