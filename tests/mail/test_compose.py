"""The writer: everything it writes is read back equal by Python's `email`, with not one field more."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from email.headerregistry import AddressHeader, DateHeader
from email.message import EmailMessage
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from email_gateway.mail.addresses import parse_address
from email_gateway.mail.compose import compose
from email_gateway.mail.content import Address, Attachment, Content
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.headers import parse_body, parse_header, parse_subject, safe_filename
from tests.mail.reading import lines_of, names_in, read

MESSAGE_ID = UUID("0190b0a0-1234-7abc-8def-0123456789ab")
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SENDER = Address("no-reply@example.com", "Acme Inc.")
RECIPIENT = Address("ana@example.org", "Ana")
PLAIN = Content(sender=SENDER, envelope=("ana@example.org",), subject="Fatura", to=(RECIPIENT,), text="Olá.\n")
ALWAYS = ["From", "To", "Subject", "Message-ID", "Date", "MIME-Version", "Content-Type"]
PDF = Attachment("boleto.pdf", "application/pdf", b"%PDF-1.7\r\n\0\xff.\r\n")
LOGO = Attachment("logo.png", "image/png", b"\x89PNG\r\n\x1a\n", content_id="logo")


def write(content: Content, *attachments: Attachment) -> bytes:
    return compose(content, attachments, message_id=MESSAGE_ID, created_at=CREATED_AT)


def read_back(content: Content, *attachments: Attachment) -> EmailMessage:
    octets = write(content, *attachments)
    lines_of(octets)
    message = read(octets)
    assert [part.defects for part in message.walk() if part.defects] == []
    return message


def shape(message: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in message.walk()]


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def files(message: EmailMessage) -> list[tuple[str | None, str, bytes]]:
    found = []
    for part in message.walk():
        if part.get_content_disposition():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            found.append((part.get_filename(), part.get_content_type(), payload))
    return found


def addresses(message: EmailMessage, name: str) -> list[str]:
    header = message[name]
    assert isinstance(header, AddressHeader)
    return [address.addr_spec for address in header.addresses]


def test_a_message_is_these_octets() -> None:
    assert write(PLAIN).decode("ascii").split("\r\n") == [
        'From: "Acme Inc." <no-reply@example.com>',
        "To: Ana <ana@example.org>",
        "Subject: Fatura",
        "Message-ID: <0190b0a0-1234-7abc-8def-0123456789ab@example.com>",
        "Date: Fri, 02 Jan 2026 03:04:05 +0000",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Ol=C3=A1.",
        "",
    ]


def test_the_same_message_is_the_same_octets_each_time_and_another_id_other_boundaries() -> None:
    content = msgspec.structs.replace(PLAIN, html="<p>")
    assert write(content, PDF) == write(content, PDF)
    other = compose(content, [PDF], message_id=UUID(int=1), created_at=CREATED_AT)
    assert UUID(int=1).hex.encode() in other
    assert MESSAGE_ID.hex.encode() not in other


def test_every_field_is_read_back_and_bcc_is_never_written() -> None:
    people = [Address(f"p{i}@example.org", f"Pessoa Nº {i}") for i in range(5)]
    content = msgspec.structs.replace(
        PLAIN,
        to=(people[0], people[1]),
        cc=(people[2],),
        bcc=(people[3],),
        reply_to=(people[4],),
        headers=(("X-Invoice", "123"), ("X-Invoice", "ação"), ("List-Unsubscribe", "<https://example.com/u?a=1>")),
    )
    message = read_back(content)
    assert addresses(message, "From") == ["no-reply@example.com"]
    assert addresses(message, "To") == ["p0@example.org", "p1@example.org"]
    assert addresses(message, "Cc") == ["p2@example.org"]
    assert addresses(message, "Reply-To") == ["p4@example.org"]
    assert message["To"].addresses[0].display_name == "Pessoa Nº 0"
    assert message["Subject"] == "Fatura"
    assert message["Message-ID"] == f"<{MESSAGE_ID}@example.com>"
    assert message.get_all("X-Invoice") == ["123", "ação"]
    assert message["List-Unsubscribe"] == "<https://example.com/u?a=1>"
    extra = ["Cc", "Reply-To", "X-Invoice", "X-Invoice", "List-Unsubscribe", "Content-Transfer-Encoding"]
    assert Counter(message.keys()) == Counter([*ALWAYS, *extra])
    assert b"p3@example.org" not in write(content)


def test_a_message_to_hidden_recipients_alone_says_so() -> None:
    content = msgspec.structs.replace(PLAIN, to=(), bcc=(RECIPIENT,))
    assert addresses(read_back(content), "To") == []
    assert b"ana@example.org" not in write(content)


def test_the_date_is_the_moment_of_acceptance_in_utc() -> None:
    elsewhere = CREATED_AT.astimezone(timezone(timedelta(hours=-3)))
    octets = compose(PLAIN, (), message_id=MESSAGE_ID, created_at=elsewhere)
    date = read(octets)["Date"]
    assert isinstance(date, DateHeader)
    assert date.datetime == CREATED_AT
    assert octets == write(PLAIN)
    with pytest.raises(ValueError, match="aware"):
        compose(PLAIN, (), message_id=MESSAGE_ID, created_at=datetime(2026, 1, 2))  # noqa: DTZ001


TEXT, HTML = "text/plain", "text/html"
SHAPES = [
    ("t", None, (), [TEXT]),
    (None, "<p>", (), [HTML]),
    (None, None, (), [TEXT]),
    ("", None, (), [TEXT]),
    ("t", "<p>", (), ["multipart/alternative", TEXT, HTML]),
    ("t", None, (PDF,), ["multipart/mixed", TEXT, "application/pdf"]),
    (None, None, (PDF,), ["multipart/mixed", "application/pdf"]),
    (None, "<p>", (LOGO,), ["multipart/related", HTML, "image/png"]),
    ("t", "<p>", (LOGO,), ["multipart/alternative", TEXT, "multipart/related", HTML, "image/png"]),
    ("t", None, (LOGO,), ["multipart/mixed", TEXT, "image/png"]),
    (
        "t",
        "<p>",
        (PDF, LOGO, PDF),
        [
            "multipart/mixed",
            "multipart/alternative",
            TEXT,
            "multipart/related",
            HTML,
            "image/png",
            "application/pdf",
            "application/pdf",
        ],
    ),
]


@pytest.mark.parametrize(("text", "html", "attached", "expected"), SHAPES, ids=range(len(SHAPES)))
def test_the_parts_stand_where_readers_look_for_them(
    text: str | None, html: str | None, attached: tuple[Attachment, ...], expected: list[str]
) -> None:
    message = read_back(msgspec.structs.replace(PLAIN, text=text, html=html), *attached)
    assert shape(message) == expected
    if text is not None:
        assert body(message, "plain").removesuffix("\r\n") == text
    if html is not None:
        assert body(message, "html").removesuffix("\r\n") == html
    assert Counter(files(message)) == Counter((a.filename, a.content_type, a.data) for a in attached)


def test_an_inline_image_is_found_by_its_content_id() -> None:
    message = read_back(msgspec.structs.replace(PLAIN, html='<img src="cid:logo">'), LOGO)
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert image["Content-ID"] == "<logo>"
    assert image.get_content_disposition() == "inline"


BODIES = [
    ".",
    "..",
    "a\n.\nb",
    ".\n.\n.",
    "a\r\n.\r\nb\r\n",
    "trailing space \nand tab\t\n",
    "From the start\nFrom again",
    "x" * 5000,
    "é" * 5000,
    "word " * 1000,
    "\n\n\n",
    "--=_a0190b0a012347abc8def0123456789ab\n\nforged part",
    "--=_m0190b0a012347abc8def0123456789ab--",
    "--=_r0190b0a012347abc8def0123456789ab\r\nContent-Type: text/html\r\n\r\n<script>",
    "Subject: not a header\n\nbody",
    "bell \x07, escape \x1b, next line \x85, separators \u2028 \u2029, form feed \x0c",
    "=3D =\n =20",
    "begin 644 x\nend",
]


@pytest.mark.parametrize("text", BODIES, ids=range(len(BODIES)))
def test_a_body_is_read_back_but_for_the_spelling_of_line_ends(text: str) -> None:
    expected = re.sub("\r\n|\r|\n", "\r\n", text)
    message = read_back(msgspec.structs.replace(PLAIN, text=text, html=text), PDF)
    assert body(message, "plain") == expected
    assert body(message, "html") == expected
    assert len(shape(message)) == 5
    alone = read_back(msgspec.structs.replace(PLAIN, text=text))
    assert body(alone, "plain").removesuffix("\r\n") == expected.removesuffix("\r\n")
    assert shape(alone) == [TEXT]


# Ends of data that some receivers take for CRLF.CRLF, so that what follows becomes commands (SMTP smuggling).
FALSE_ENDS = [
    f"{a}.{b}" for a in ("\n", "\r", "\r\n", "\n\n", "\r\r\n") for b in ("\n", "\r", "\r\n", "\n\r", "\r\r\n")
]


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
def test_a_false_end_of_data_leaves_as_ordinary_lines(end: str) -> None:
    text = f"before{end}MAIL FROM:<x@evil.example>\r\n"
    attachment = Attachment("x.txt", "text/plain", text.encode())
    octets = write(msgspec.structs.replace(PLAIN, text=text, html=text), attachment)
    lines = lines_of(octets)
    assert lines.count(b"MAIL FROM:<x@evil.example>") == 2
    message = read(octets)
    assert files(message)[0][2] == text.encode()
    assert body(message, "plain").startswith("before\r\n")


@pytest.mark.parametrize("text", ["a\0b", "\r\n.\0\r\n", "\ud800"])
def test_nul_and_lone_surrogates_never_leave(text: str) -> None:
    for change in ({"text": text}, {"html": text}, {"subject": text}, {"headers": (("X-A", text),)}):
        with pytest.raises(InvalidValue):
            write(msgspec.structs.replace(PLAIN, **change))


@pytest.mark.parametrize("name", ["Bcc", "bcc", "X-A\r\nBcc", "Content-Type", "To", "Subject", "", "X:"])
def test_a_stored_header_that_is_not_the_callers_is_not_written(name: str) -> None:
    with pytest.raises(InvalidValue):
        write(msgspec.structs.replace(PLAIN, headers=((name, "value"),)))


def test_a_stored_address_that_is_none_is_not_written() -> None:
    for email in ("a@b.example>\r\nBcc: <x@evil.example", "a b@example.com", "a@example.com, x@evil.example", "a"):
        for change in ({"to": (Address(email),)}, {"sender": Address(email)}, {"reply_to": (Address(email),)}):
            with pytest.raises(InvalidValue):
                write(msgspec.structs.replace(PLAIN, **change))


def test_80_kilobytes_are_attached_byte_for_byte() -> None:
    data = bytes((i * 7 + i // 256) % 256 for i in range(80_000))
    message = read_back(PLAIN, Attachment("Nota Fiscal nº 1/2026.pdf", "application/pdf", data))
    assert files(message) == [("Nota Fiscal nº 1_2026.pdf", "application/pdf", data)]


@pytest.mark.parametrize("data", [b"", b"\n", b"\0", b"a" * 57, b"a" * 58])
def test_small_files_are_attached_byte_for_byte(data: bytes) -> None:
    message = read_back(PLAIN, Attachment("x.bin", "application/octet-stream", data), PDF)
    assert files(message)[0][2] == data
    assert len(files(message)) == 2


@pytest.mark.parametrize("subject", ["", "é" * 998, "a" * 998, "word " * 190 + "end", "日本" * 499])
def test_a_subject_of_any_length_is_read_back(subject: str) -> None:
    assert read_back(msgspec.structs.replace(PLAIN, subject=subject))["Subject"] == subject


poison = st.sampled_from(
    ["\r", "\n", "\r\n", "\0", "\x85", "\u2028", "\u202e", "\r\nBcc: x@evil.example\r\n", "=?", "."]
)
anything = st.lists(poison | st.text(max_size=40), max_size=4).map("".join)
clean = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cf")), max_size=60)
field = clean | clean | anything
header = st.tuples(st.from_regex(r"X-[A-Za-z0-9-]{1,30}", fullmatch=True) | anything, field)


def accepted(name: str, subject: str, text: str, html: str, header: tuple[str, str]) -> Content:
    """What a request with these values becomes, by the checks on requests."""
    quoted_name = name.replace("\\", "\\\\").replace('"', '\\"')
    return msgspec.structs.replace(
        PLAIN,
        sender=parse_address(f'"{quoted_name}" <no-reply@example.com>'),
        subject=parse_subject(subject),
        text=parse_body(text),
        html=parse_body(html),
        headers=(parse_header(*header),),
    )


@settings(max_examples=200, deadline=None)
@given(name=field, subject=field, text=anything, html=anything, header=header, filename=anything)
def test_whatever_is_accepted_is_read_back_with_no_other_field(
    name: str, subject: str, text: str, html: str, header: tuple[str, str], filename: str
) -> None:
    try:
        content = accepted(name, subject, text, html, header)
    except InvalidValue:
        return
    message = read_back(content, Attachment(filename, "application/pdf", b"data"))
    assert Counter(message.keys()) == Counter([*ALWAYS, header[0]])
    assert addresses(message, "From") == ["no-reply@example.com"]
    raw = write(content).decode().replace("\r\n ", " ").split("\r\n")[0]
    assert names_in(raw) == [content.sender.name or ""]
    assert message["Subject"] == subject
    assert message[header[0]] == header[1]
    assert body(message, "plain") == re.sub("\r\n|\r|\n", "\r\n", text)
    assert body(message, "html") == re.sub("\r\n|\r|\n", "\r\n", html)
    assert files(message) == [(safe_filename(filename), "application/pdf", b"data")]


@settings(max_examples=200, deadline=None)
@given(name=anything, subject=anything, text=anything, header=header, filename=anything, email=anything)
def test_content_that_no_check_has_seen_is_refused_or_written_with_no_other_field(
    name: str, subject: str, text: str, header: tuple[str, str], filename: str, email: str
) -> None:
    content = msgspec.structs.replace(
        PLAIN, to=(Address(RECIPIENT.email, name), Address(email)), subject=subject, text=text, headers=(header,)
    )
    trusted = msgspec.structs.replace(content, to=(Address(RECIPIENT.email, name),))
    for candidate in (content, trusted):
        try:
            message = read(write(candidate, Attachment(filename, "application/pdf", b"data")))
        except InvalidValue:
            continue
        assert Counter(message.keys()) == Counter([*ALWAYS, header[0]])
        assert [part.keys() for part in message.walk()][2] == [
            "Content-Type",
            "Content-Transfer-Encoding",
            "Content-Disposition",
        ]
