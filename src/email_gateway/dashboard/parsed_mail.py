"""Reading a raw mail for display. Whatever stands in it is text to be shown, never trusted, never followed."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import parseaddr
from urllib.parse import unquote

MAX_PARTS = 200
MAX_INLINE_IMAGE = 2 * 1024 * 1024
INLINE_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
CID_REFERENCE = re.compile(r"cid:([^\s\"'<>()]{1,200})", re.IGNORECASE)
SHOWN_HEADERS = ("From", "To", "Cc", "Reply-To", "Subject", "Date")
LONGEST_HEADER = 2000
# What the standard library's parser is known to raise on crafted mail instead of recording a defect.
PARSER_TRIPS = (ValueError, LookupError, AttributeError, TypeError, AssertionError, RecursionError, MessageError)


@dataclass(frozen=True, slots=True)
class MailFile:
    """An attachment as its part says it is: name and type are the sender's words."""

    filename: str
    content_type: str
    data: bytes
    content_id: str


@dataclass(frozen=True, slots=True)
class ParsedMail:
    """The parts that a reader looks at; absent headers are left out, absent bodies are None."""

    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    files: tuple[MailFile, ...]

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")


def parse_mail(raw: bytes) -> ParsedMail:
    """Take a mail apart. Never raises: what the parser cannot read is shown in the raw source."""
    try:
        mail = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
        text, html, files = _bodies_and_files(mail)
    except PARSER_TRIPS:
        return ParsedMail((), None, None, ())
    return ParsedMail(_headers(mail), text, html, tuple(files))


def parse_headers(raw: bytes) -> ParsedMail:
    """Read the headers only, for a list."""
    head, _, _ = raw.partition(b"\r\n\r\n")
    try:
        return ParsedMail(
            _headers(message_from_bytes(head + b"\r\n\r\n", _class=EmailMessage, policy=policy.default)), None, None, ()
        )
    except PARSER_TRIPS:
        return ParsedMail((), None, None, ())


def display_name(mailbox: str) -> str:
    """Return the name that a mailbox carries, or its address."""
    name, address = parseaddr(mailbox)
    return name or address or mailbox


def with_inline_images(html: str, files: tuple[MailFile, ...]) -> str:
    """Put the mail's own images where its HTML names them (RFC 2392), as the frame may load nothing."""
    images = {
        file.content_id: f"data:{file.content_type};base64,{base64.b64encode(file.data).decode()}"
        for file in files
        if file.content_id and file.content_type in INLINE_IMAGE_TYPES and len(file.data) <= MAX_INLINE_IMAGE
    }
    used: set[str] = set()

    def place(match: re.Match[str]) -> str:
        content_id = unquote(match[1])
        # Once each: a thousand references to one image would make a page of gigabytes.
        if content_id not in images or content_id in used:
            return match[0]
        used.add(content_id)
        return images[content_id]

    return CID_REFERENCE.sub(place, html) if images else html


def _headers(mail: EmailMessage) -> tuple[tuple[str, str], ...]:
    found = []
    for name in SHOWN_HEADERS:
        try:
            value = mail[name]
        except PARSER_TRIPS:
            value = "(cannot be read: see the raw source)"
        if value is not None:
            found.append((name, str(value)[:LONGEST_HEADER]))
    return tuple(found)


def _bodies_and_files(mail: EmailMessage) -> tuple[str | None, str | None, list[MailFile]]:
    text: str | None = None
    html: str | None = None
    files: list[MailFile] = []
    for part in _leaves(mail):
        content_type = part.get_content_type()
        is_file = part.get_content_disposition() == "attachment" or part.get_filename() is not None
        if not is_file and content_type == "text/plain" and text is None:
            text = _decode(part)
        elif not is_file and content_type == "text/html" and html is None:
            html = _decode(part)
        else:
            content_id = str(part.get("Content-ID", "")).strip().strip("<>")
            filename = part.get_filename() or f"part-{len(files) + 1}"
            files.append(MailFile(filename, content_type, _octets(part), content_id))
    return text, html, files


def _leaves(part: EmailMessage, depth: int = 0) -> Iterator[EmailMessage]:
    """Yield the parts that hold content, an attached mail as one of them; deep nesting ends there."""
    if depth > 20 or not part.is_multipart() or part.get_content_maintype() != "multipart":
        yield part
        return
    for child in list(part.iter_parts())[:MAX_PARTS]:
        if isinstance(child, EmailMessage):
            yield from _leaves(child, depth + 1)


def _octets(part: EmailMessage) -> bytes:
    if part.is_multipart():  # message/rfc822: the mail inside is the file
        return b"".join(inner.as_bytes() for inner in part.iter_parts())
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decode(part: EmailMessage) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        text = _octets(part).decode(charset, errors="replace")
    except LookupError:  # a charset nobody knows
        text = _octets(part).decode("utf-8", errors="replace")
    return text.replace("\r\n", "\n")
