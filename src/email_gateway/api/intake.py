"""From what a caller sent to what is stored: checked field by field, then sealed. No I/O; any thread may run it."""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from email_gateway.api.schemas import (
    MAX_ATTACHMENTS,
    MAX_HEADERS,
    MAX_RECIPIENTS,
    MAX_TAGS,
    AttachmentInput,
    BufferJson,
    Person,
    SendEmail,
    Tag,
)
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.addresses import parse_address
from email_gateway.mail.content import Address, Attachment, AttachmentSummary, Content
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue
from email_gateway.mail.headers import (
    parse_body,
    parse_content_id,
    parse_content_type,
    parse_header,
    parse_subject,
    safe_filename,
)
from email_gateway.mail.search_terms import canonical_envelope, canonical_external_id, search_terms
from email_gateway.mail.send_times import parse_send_time
from email_gateway.mail.tax_ids import TaxId, parse_tax_id
from email_gateway.store.accepting import NOTHING, PIECE_BYTES, NewAttachment, NewMessage
from email_gateway.vault.tenant_keys import TenantKeys

# RFC 5321 section 4.5.4.1: the give-up time is at least 4 to 5 days.
DEFAULT_LIFETIME = timedelta(days=5)
MAX_ENCODED_BYTES = 40 * 1024 * 1024  # bodies, and attachments as base64, as the SDKs' users know it
MAX_EXTERNAL_ID_CHARACTERS = 256
REQUIRED = "add this field: it is required"
PRIORITIES = {"high": 0, "normal": 1, "low": 2}

# A content larger than this has a summary for lists beside it: all of it but the bodies.
SUMMARISED_BYTES = 64 * 1024

T = TypeVar("T")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PACK = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    """A message that has passed every check and is yet to be sealed."""

    content: Content
    attachments: tuple[Attachment, ...]
    tax_id: TaxId | None
    tags: tuple[tuple[str, str], ...]
    on_doubt: str
    lifetime: timedelta
    dead_at_expiry: bool
    priority: int
    scheduled_at: datetime | None


class Findings:
    """The mistakes of one request; `at` is where its message stands in the body."""

    def __init__(self, at: str = "") -> None:
        self._at = at
        self.faults: list[Fault] = []

    def add(self, pointer: str, detail: str, *, is_missing: bool = False) -> None:
        """Note a mistake."""
        self.faults.append(Fault(self._at + pointer, detail, is_missing))

    def read(self, pointer: str, parse: Callable[[], T]) -> T | None:
        """Return what `parse` makes of a value, or note what it says against it."""
        try:
            return parse()
        except InvalidValue as error:
            self.add(pointer, str(error))
            return None


def draft(email: SendEmail, at: str = "") -> Draft:
    """Check a message; raises InvalidRequest with every mistake found."""
    findings = Findings(at)
    if email.sender is msgspec.UNSET:
        findings.add("/from", REQUIRED, is_missing=True)
    sender = _read_field(None if email.sender is msgspec.UNSET else email.sender, "/from", findings)
    if isinstance(email.sender, list) and len(email.sender) != 1:
        findings.add("/from", "give exactly one sender")
    to = _read_field(email.to, "/to", findings)
    cc = _read_field(email.cc, "/cc", findings)
    bcc = _read_field(email.bcc, "/bcc", findings)
    reply_to = _read_field(email.reply_to, "/reply_to", findings)
    # Each address once, in the order in which it first appears.
    envelope = tuple(dict.fromkeys(address.email for address in (*to, *cc, *bcc)))
    if not email.to:
        findings.add("/to", "give at least one recipient", is_missing=True)
    if len(to) + len(cc) + len(bcc) > MAX_RECIPIENTS:
        findings.add("/to", f"give at most {MAX_RECIPIENTS} recipients in to, cc and bcc together")
    subject = _read_subject(email.subject, findings)
    _check_bodies(email, findings)
    headers = _read_headers(email.headers or {}, findings)
    attachments = _read_attachments(email.attachments or [], findings)
    tags = _read_tags(email.tags or [], findings)
    person = email.recipient or Person()
    tax_id = _read_person(person, findings)
    scheduled_at = _read_send_time(email.scheduled_at, findings)
    _check_size(email, attachments, findings)
    if findings.faults:
        raise InvalidRequest("the request is not valid", tuple(findings.faults))
    content = Content(
        sender=sender[0],
        envelope=envelope,
        subject=subject,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        html=email.html,
        text=email.text,
        headers=headers,
        person_name=person.name,
        external_id=canonical_external_id(person.external_id) if person.external_id is not None else None,
    )
    return Draft(
        content,
        attachments,
        tax_id,
        tags,
        email.on_doubt or "resend",
        DEFAULT_LIFETIME if email.expires_after is None else timedelta(seconds=email.expires_after),
        dead_at_expiry=email.expires_after is None,
        priority=PRIORITIES[email.priority or "normal"],
        scheduled_at=scheduled_at,
    )


def seal(checked: Draft, keys: TenantKeys) -> NewMessage:
    """Seal a checked message under the tenant's keys, with a new id that is bound into every value."""
    message_id = uuid7()
    content = checked.content
    packed = _PACK(content)
    tax_id = checked.tax_id
    summary = msgspec.structs.replace(content, html=None, text=None) if len(packed) > SUMMARISED_BYTES else None
    sealed_content, rest = _split(keys.seal("message.content", message_id, packed))
    recipients = canonical_envelope(content)
    blind = keys.blind_each(search_terms(content, tax_id, recipients))
    return NewMessage(
        message_id=message_id,
        sealed_content=sealed_content,
        rest=rest,
        sealed_summary=keys.seal("message.summary", message_id, _PACK(summary)) if summary is not None else None,
        sealed_tax_id=keys.seal("message.tax_id", message_id, tax_id.pack()) if tax_id is not None else None,
        size=len(packed) + sum(len(attachment.data) for attachment in checked.attachments),
        sender_domain=content.sender.domain,
        domains=tuple(email.rpartition("@")[2] for email in content.envelope),
        on_doubt=checked.on_doubt,
        lifetime=checked.lifetime,
        dead_at_expiry=checked.dead_at_expiry,
        tags=checked.tags,
        attachments=tuple(_seal_attachment(attachment, keys) for attachment in checked.attachments),
        blind=blind,
        recipients=_find_known(recipients, blind[:: len(keys.index_keys)]),
        priority=checked.priority,
        scheduled_at=checked.scheduled_at,
    )


def _find_known(
    recipients: Sequence[bytes], searched: Sequence[tuple[bytes, str, bytes]]
) -> tuple[tuple[bytes, bytes], ...]:
    """Return (index key id, blind value) of each recipient, from what is searched: there the addresses come first."""
    known = {
        address: (key_id, value)
        for address, (key_id, _, value) in zip(dict.fromkeys(recipients), searched, strict=False)
    }
    return tuple(known[address] for address in recipients)


def _seal_attachment(attachment: Attachment, keys: TenantKeys) -> NewAttachment:
    attachment_id: UUID = uuid7()
    sealed, rest = _split(keys.seal("attachment.content", attachment_id, _PACK(attachment)))
    summary = AttachmentSummary(attachment.filename, attachment.content_type, attachment.content_id)
    sealed_summary = keys.seal("attachment.summary", attachment_id, _PACK(summary))
    return NewAttachment(attachment_id, sealed, len(attachment.data), rest, sealed_summary)


def _split(sealed: bytes) -> tuple[bytes, memoryview]:
    """Return a value's first piece, and what follows it without a copy."""
    if len(sealed) <= PIECE_BYTES:
        return sealed, NOTHING
    return sealed[:PIECE_BYTES], memoryview(sealed)[PIECE_BYTES:]


def _read_field(value: str | list[str] | None, pointer: str, findings: Findings) -> tuple[Address, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        address = findings.read(pointer, lambda: parse_address(value))
        return () if address is None else (address,)
    return _read_addresses(value, pointer, findings)


def _read_addresses(values: list[str], pointer: str, findings: Findings) -> tuple[Address, ...]:
    if len(values) > MAX_RECIPIENTS:
        findings.add(pointer, f"give at most {MAX_RECIPIENTS} addresses")
        return ()
    read = [
        findings.read(f"{pointer}/{index}", lambda text=text: parse_address(text))  # type: ignore[misc]
        for index, text in enumerate(values)
    ]
    return tuple(address for address in read if address is not None)


def _read_subject(given: str | msgspec.UnsetType, findings: Findings) -> str:
    if given is msgspec.UNSET:
        findings.add("/subject", REQUIRED, is_missing=True)
        return ""
    return findings.read("/subject", lambda: parse_subject(given)) or ""


def _check_bodies(email: SendEmail, findings: Findings) -> None:
    if email.html is None and email.text is None:
        findings.add("", "give html, text or both", is_missing=True)
    for pointer, text in (("/html", email.html), ("/text", email.text)):
        if text is not None:
            findings.read(pointer, lambda text=text: parse_body(text))  # type: ignore[misc]


def _read_headers(headers: dict[str, str], findings: Findings) -> tuple[tuple[str, str], ...]:
    if len(headers) > MAX_HEADERS:
        findings.add("/headers", f"give at most {MAX_HEADERS} headers")
        return ()
    for position, (name, value) in enumerate(headers.items(), start=1):
        # Not the name: what a caller wrongly took for one may be personal.
        try:
            parse_header(name, value)
        except InvalidValue as error:
            findings.add("/headers", f"header {position}: {error}")
    if len({name.lower() for name in headers}) < len(headers):
        findings.add("/headers", "give each header once, whatever its case")
    return tuple(headers.items())


def _read_attachments(given: list[AttachmentInput], findings: Findings) -> tuple[Attachment, ...]:
    if len(given) > MAX_ATTACHMENTS:
        findings.add("/attachments", f"give at most {MAX_ATTACHMENTS} attachments")
        return ()
    read = [_read_attachment(one, f"/attachments/{index}", findings) for index, one in enumerate(given)]
    return tuple(attachment for attachment in read if attachment is not None)


def _read_attachment(given: AttachmentInput, at: str, findings: Findings) -> Attachment | None:
    filename = safe_filename(given.filename)
    data = findings.read(f"{at}/content", lambda: _read_content(given.content))
    kind = findings.read(f"{at}/content_type", lambda: parse_content_type(given.content_type, filename))
    content_id = given.content_id or given.inline_content_id
    if content_id is not None:
        content_id = findings.read(f"{at}/content_id", lambda: parse_content_id(content_id or ""))
    if data is None or kind is None:
        return None
    return Attachment(filename, kind, data, content_id)


def _read_content(content: str | list[int] | BufferJson) -> bytes:
    if isinstance(content, str):
        try:
            # Some clients (Ruby's encode64, MIME libraries) break the lines; nothing else is forgiven.
            unbroken = content.replace("\r", "").replace("\n", "") if "\n" in content else content
            return a2b_base64(unbroken, strict_mode=True)
        except (Base64Error, ValueError):
            raise InvalidValue("send the file in base64 (RFC 4648 section 4, with its padding)") from None
    values = content.data if isinstance(content, BufferJson) else content
    try:
        return bytes(values)
    except (ValueError, OverflowError):
        raise InvalidValue("send the bytes of the file as numbers between 0 and 255") from None


def _read_tags(given: list[Tag], findings: Findings) -> tuple[tuple[str, str], ...]:
    if len(given) > MAX_TAGS:
        findings.add("/tags", f"give at most {MAX_TAGS} tags")
        return ()
    for index, tag in enumerate(given):
        for part, text in (("name", tag.name), ("value", tag.value)):
            if not _TAG.fullmatch(text):
                findings.add(f"/tags/{index}/{part}", "use 1 to 256 ASCII letters, digits, underscores and dashes")
    if len({tag.name for tag in given}) < len(given):
        findings.add("/tags", "give each tag name once")
    return tuple((tag.name, tag.value) for tag in given)


def _read_person(person: Person, findings: Findings) -> TaxId | None:
    for part, text in (("name", person.name), ("external_id", person.external_id)):
        if text is not None and (not text.strip() or UNSAFE_IN_NAMES.search(text)):
            findings.add(f"/recipient/{part}", "use 1 to 256 characters without control characters")
    if (tax_id := person.tax_id) is None:
        return None
    return findings.read("/recipient/tax_id", lambda: parse_tax_id(tax_id))


def _read_send_time(text: str | None, findings: Findings) -> datetime | None:
    if text is None:
        return None
    return findings.read("/scheduled_at", lambda: parse_send_time(text, datetime.now(UTC)))


def _check_size(email: SendEmail, attachments: tuple[Attachment, ...], findings: Findings) -> None:
    encoded = sum(4 * -(-len(attachment.data) // 3) for attachment in attachments)
    bodies = sum(len(text.encode("utf-8", "surrogatepass")) for text in (email.html, email.text) if text is not None)
    if encoded + bodies > MAX_ENCODED_BYTES:
        findings.add("/attachments" if attachments else "", "keep bodies and attachments within 40 MB after base64")
