"""The writer of messages: content and attachments into RFC 5322 and MIME octets, the same each time.

Written for speed and for what must never happen (a header too many, a NUL, a line over 998
octets); the tests hold it against Python's `email`, an independent reader.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from uuid import UUID

from email_gateway.mail.content import Attachment, Content
from email_gateway.mail.encoding import encode_base64, encode_text, fold
from email_gateway.mail.headers import (
    address_field,
    content_type_field,
    disposition_field,
    parse_content_id,
    parse_header_name,
    safe_filename,
    unstructured_field,
)

# One body part: its header fields, the empty line and its octets, joined only once at the end,
# so that a large attachment is copied once however deep it stands.
Part = list[bytes]


def compose(content: Content, attachments: Sequence[Attachment], *, message_id: UUID, created_at: datetime) -> bytes:
    """Write the message: CRLF throughout, no line over 998 octets, no Bcc, the same octets each time.

    All is ASCII, but for addresses that are not: the message then needs SMTPUTF8 (RFC 6531).
    `created_at` must be aware; it becomes the Date. Attachments with a content id stand beside
    the HTML (multipart/related) when there is HTML. A single text body ends in a line end even
    if the content does not. Raises `InvalidValue` for what the checks on requests refuse: NUL,
    lone surrogates, control characters in header values, refused header names.
    """
    if created_at.tzinfo is None:
        raise ValueError("created_at must be aware")
    chunks = [
        _head(content, message_id, created_at).encode(),
        *_entity(content, attachments, message_id),
    ]
    if not chunks[-1].endswith(b"\r\n"):
        chunks.append(b"\r\n")
    return b"".join(chunks)


def _head(content: Content, message_id: UUID, created_at: datetime) -> str:
    fields = [address_field("From", (content.sender,))]
    if content.to:
        fields.append(address_field("To", content.to))
    if content.cc:
        fields.append(address_field("Cc", content.cc))
    if not content.to and not content.cc:
        # Nothing requires the field, but filters count its absence against a message.
        fields.append("To: undisclosed-recipients:;\r\n")
    if content.reply_to:
        fields.append(address_field("Reply-To", content.reply_to))
    fields.append(unstructured_field("Subject", content.subject))
    fields.append(f"Message-ID: <{message_id}@{content.sender.domain}>\r\n")
    fields.append(f"Date: {format_datetime(created_at.astimezone(UTC))}\r\n")
    fields += [unstructured_field(parse_header_name(name), value) for name, value in content.headers]
    fields.append("MIME-Version: 1.0\r\n")
    return "".join(fields)


def _entity(content: Content, attachments: Sequence[Attachment], message_id: UUID) -> Part:
    inline = [a for a in attachments if a.content_id is not None and content.html is not None]
    attached = [a for a in attachments if a.content_id is None or content.html is None]
    bodies: list[Part] = []
    if content.text is not None or (content.html is None and not attached):
        bodies.append(_text_part("plain", content.text or ""))
    if content.html is not None:
        html = _text_part("html", content.html)
        if inline:
            parts = [html, *(_file_part("inline", a) for a in inline)]
            html = _multipart("related", message_id, parts)
        bodies.append(html)
    body = _multipart("alternative", message_id, bodies) if len(bodies) > 1 else None
    if not attached:
        return body or bodies[0]
    parts = [body] if body else bodies
    return _multipart("mixed", message_id, [*parts, *(_file_part("attachment", a) for a in attached)])


def _multipart(subtype: str, message_id: UUID, parts: Sequence[Part]) -> Part:
    """Join parts behind a boundary that cannot occur in them.

    Every boundary begins with `=_`: quoted-printable writes `=` only before two hexadecimal digits
    or a line end, base64 has no `_`, and a 7bit body with that pair is not left as 7bit. The first
    letter of the subtype keeps nested boundaries apart, none the beginning of another.
    """
    boundary = f"=_{subtype[0]}{message_id.hex}"
    delimiter = f"\r\n--{boundary}\r\n".encode("ascii")
    # RFC 2387 section 3.1: a related multipart names the type of its root.
    root = ['type="text/html";'] if subtype == "related" else []
    chunks = [fold("Content-Type", [f"multipart/{subtype};", *root, f'boundary="{boundary}"']).encode("ascii")]
    for part in parts:
        chunks.append(delimiter)
        chunks += part
    chunks.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return chunks


def _text_part(subtype: str, text: str) -> Part:
    transfer_encoding, data = encode_text(text)
    fields = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {transfer_encoding}\r\n\r\n"
    return [fields.encode("ascii"), data]


def _file_part(disposition: str, attachment: Attachment) -> Part:
    filename = safe_filename(attachment.filename)
    fields = [
        content_type_field(attachment.content_type, filename),
        "Content-Transfer-Encoding: base64\r\n",
        disposition_field(disposition, filename),
    ]
    if attachment.content_id is not None:
        fields.append(f"Content-ID: <{parse_content_id(attachment.content_id)}>\r\n")
    return ["".join(fields).encode("ascii"), b"\r\n", encode_base64(attachment.data)]
