"""Custom headers, subjects and attachment fields: what is refused, and how fields are written."""

from email.headerregistry import AddressHeader

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.content import Address
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.headers import (
    InvalidHeader,
    address_field,
    content_type_field,
    disposition_field,
    parse_content_id,
    parse_content_type,
    parse_header,
    parse_subject,
    safe_filename,
    unstructured_field,
)
from tests.mail.reading import names_in, read_field

BREAKERS = ["\r", "\n", "\r\n", "\0", "\x01", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]


@pytest.mark.parametrize(
    "name",
    ["X-Invoice", "List-Unsubscribe", "In-Reply-To", "References", "Auto-Submitted", "x-1", "X" * 76, "To-Do", "Dates"],
)
def test_a_header_that_is_the_callers_own_is_taken(name: str) -> None:
    assert parse_header(name, "value") == (name, "value")


@pytest.mark.parametrize(
    "name",
    [
        "Bcc", "bcc", "BCC", "To", "Cc", "From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "message-id",
        "Received", "Received-SPF", "Return-Path", "MIME-Version", "Content-Type", "content-transfer-encoding",
        "Content-ID", "DKIM-Signature", "DomainKey-Signature", "ARC-Seal", "Resent-To", "Resent-Bcc", "Delivered-To",
        "Authentication-Results", "", "X" * 77, "X Y", "X:", "X_Y", "X.Y", "Xé", "X\r\nBcc", "X-A\n", "\uff22cc", "\0",
    ],
)  # fmt: skip
def test_a_header_that_is_the_gateways_or_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidHeader):
        parse_header(name, "value")


@pytest.mark.parametrize("breaker", [*BREAKERS, "\u202e"])
def test_nothing_that_ends_a_line_passes_in_a_value_or_subject(breaker: str) -> None:
    for text in (f"a{breaker}Bcc: x@evil.example", breaker, f"a{breaker}"):
        with pytest.raises(InvalidHeader):
            parse_header("X-A", text)
        with pytest.raises(InvalidHeader):
            parse_subject(text)


@pytest.mark.parametrize("breaker", BREAKERS)
def test_the_writer_refuses_again_what_the_checks_refuse(breaker: str) -> None:
    text = f"a{breaker}Bcc: x@evil.example"
    with pytest.raises(InvalidValue):
        unstructured_field("Subject", text)
    with pytest.raises(InvalidValue):
        address_field("To", [Address("user@example.com", text)])
    with pytest.raises(InvalidValue):
        address_field("To", [Address(f"user{breaker}@example.com")])
    with pytest.raises(InvalidValue):
        disposition_field("attachment", text)
    with pytest.raises(InvalidValue):
        unstructured_field(f"X{breaker}é", "value")


def test_marks_and_tabs_that_honest_text_needs_are_taken() -> None:
    assert parse_subject("\u05e9\u05dc\u05d5\u05dd \u200fABC\u200e") == "\u05e9\u05dc\u05d5\u05dd \u200fABC\u200e"
    assert parse_header("X-A", "a\tb") == ("X-A", "a\tb")


def test_lengths_are_capped_at_998_characters() -> None:
    assert parse_subject("é" * 998)
    assert parse_subject("") == ""
    with pytest.raises(InvalidHeader, match="998"):
        parse_subject("é" * 999)
    with pytest.raises(InvalidHeader, match="998"):
        parse_header("X-A", "a" * 999)


def test_a_refusal_never_repeats_the_value() -> None:
    for refused in (("X-Marked\n", "v"), ("X-A", "marked\n"), ("Marked:", "marked")):
        with pytest.raises(InvalidHeader) as refusal:
            parse_header(*refused)
        assert "marked" not in str(refusal.value).lower()


TEXTS = [
    "",
    "plain",
    "não é ASCII",
    " outer spaces ",
    "a  b   c",
    "tab\tinside",
    "tail ",
    "=?utf-8?q?looks=20encoded?=",
    "a =?x",
    "word " * 199,
    "a" * 998,
    "é" * 998,
    "日本語" * 332,
    "😀" * 998,
    "a b" + " " * 990 + "c",
    ("x" * 90 + " ") * 9 + "y",
    'Re: [list] (comment) "quoted" \\ <a@b>, c:;',
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["Subject", "X-" + "N" * 74])
def test_free_text_is_read_back_as_written(name: str, text: str) -> None:
    field = unstructured_field(name, text)
    assert str(read_field(field)[name]) == text
    for line in field.removesuffix("\r\n").split("\r\n"):
        assert line.strip()
        assert len(line) <= 998
        assert "=?utf-8?B?" not in line or len(line) <= max(76, len(name) + 2 + 20)


def test_lines_stay_near_76_columns() -> None:
    for text in ("word " * 199, "é" * 998, "😀 " * 400):
        assert max(map(len, unstructured_field("Subject", text.strip()).split("\r\n"))) <= 76


def test_no_encoded_word_splits_a_character() -> None:
    for lead in range(4):
        words = unstructured_field("Subject", "a" * lead + "😀é日" * 50).split()[1:]
        for word in words:
            read_field(f"Subject: {word}\r\n")["Subject"].encode()
            assert "\ufffd" not in str(read_field(f"Subject: {word}\r\n")["Subject"])


NAMES = [
    "Ana",
    "Ana Maria",
    "Acme Inc.",
    "Silva, João",
    "Silva, Joao",
    'The "Best"',
    "back\\slash",
    "user@example.com",
    "<other@example.org>",
    "a: b;",
    "(not a comment)",
    "double  space",
    "=?utf-8?q?x?=",
    "株式会社",
    "é" * 256,
    "n" * 256,
    "word " * 50 + "end",
    'quo"te ' * 30 + "end",
    "\u00a0no-break\u00a0",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_display_name_is_read_back_and_never_becomes_another_address(name: str) -> None:
    others = [Address("first@example.com"), Address("last@example.org", "Last")]
    field = address_field("To", [others[0], Address("user@example.com", name), others[1]])
    header = read_field(field)["To"]
    assert isinstance(header, AddressHeader)
    assert [a.addr_spec for a in header.addresses] == ["first@example.com", "user@example.com", "last@example.org"]
    assert names_in(field) == ["", name, "Last"]
    assert all(group.display_name is None for group in header.groups)
    assert max(map(len, field.split("\r\n"))) <= 998


def test_an_address_beyond_ascii_is_read_back_from_utf8() -> None:
    people = [Address("josé@example.net", "José, o Primeiro"), Address("用户@example.org"), Address("ana@example.com")]
    field = address_field("To", people)
    assert max(len(line.encode()) for line in field.split("\r\n")) <= 998
    # The reader keeps octets beyond ASCII as lone surrogates.
    read = [a.addr_spec.encode(errors="surrogateescape").decode() for a in read_field(field)["To"].addresses]
    assert read == [p.email for p in people]
    assert names_in(field) == ["José, o Primeiro", "", ""]


@pytest.mark.parametrize(
    "bad", ["us\u2028é@example.net", "us\u202eé@example.net", "us\xa0é@example.net", "é>@example.net"]
)
def test_an_address_beyond_ascii_that_is_not_ours_is_not_written(bad: str) -> None:
    with pytest.raises(InvalidValue):
        address_field("To", [Address(bad)])


def test_fifty_recipients_are_folded() -> None:
    people = [Address(f"person{i}@example.com", f"Pessoa Número {i}") for i in range(50)]
    field = address_field("To", people)
    assert max(map(len, field.split("\r\n"))) <= 76
    assert [a.addr_spec for a in read_field(field)["To"].addresses] == [p.email for p in people]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("application/pdf", "application/pdf"),
        ("image/svg+xml", "image/svg+xml"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ('text/calendar; charset="UTF-8"; method=REQUEST;', 'text/calendar; charset="UTF-8"; method=REQUEST'),
        (None, "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_content_type_is_taken(text: str | None, written: str) -> None:
    assert parse_content_type(text) == written


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("boleto.pdf", "application/pdf"),
        ("NOTA.XML", "application/xml"),
        ("pdf", "application/pdf"),
        ("mail.eml", "application/octet-stream"),
        ("unknown.zzz", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_missing_content_type_follows_the_files_ending(filename: str, content_type: str) -> None:
    assert parse_content_type(None, filename) == content_type


@pytest.mark.parametrize(
    "text",
    [
        "pdf", "application/", "/pdf", "a/b/c", "application/pdf\r\nBcc: x@evil.example", "application/pdf\n", "a b/c",
        "text/plain; name=x", "text/plain; NAME*=x", "text/plain; boundary=x", "text/plain; charset=a; charset=b",
        "text/plain; charset", 'text/plain; charset="a', 'text/plain; charset="a\\"b"', "multipart/mixed",
        "Message/RFC822", "té/plain", "text/plain\0", "x/" + "y" * 300, "text/plain" + "; a=b" * 60,
        "text/plain" + ";" * 100_000, "a/b" + "; c=d" * 100_000,
    ],
    ids=range(22),
)  # fmt: skip
def test_a_content_type_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidHeader):
        parse_content_type(text)


def test_a_content_id_loses_its_brackets_and_holds_no_space() -> None:
    assert parse_content_id("<logo@example>") == "logo@example"
    assert parse_content_id("logo-1.png") == "logo-1.png"
    for text in ("", "<>", "a b", "a>b", "a\r\nBcc: x", "é", "a" * 129, "<<a>>", "a\n"):
        with pytest.raises(InvalidHeader):
            parse_content_id(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("boleto.pdf", "boleto.pdf"),
        ("Nota 1/2026.pdf", "Nota 1_2026.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Users\\x.txt", "C__Users_x.txt"),
        ("fatura\u202efdp.exe", "faturafdp.exe"),
        ("a\r\nBcc: x\0.pdf", "aBcc_ x.pdf"),
        ("a\ud800b", "ab"),
        (".htaccess", "htaccess"),
        ("x.pdf. . ", "x.pdf"),
        ("", "attachment"),
        ("...", "attachment"),
        ("\n\r\0", "attachment"),
        ("a" * 300 + ".pdf", "a" * 251 + ".pdf"),
        ("é" * 300 + ".pdf", "é" * 125 + ".pdf"),
        ("x" * 300, "x" * 255),
        ("\u00a0.\u3000x.pdf\u2003", "x.pdf"),
        ('"<a>|b?*"', "__a__b___"),
    ],
    ids=range(17),
)
def test_a_file_name_is_made_safe(text: str, safe: str) -> None:
    assert safe_filename(text) == safe


@given(st.text(max_size=300) | st.text(alphabet="é. /\\\r\n\u202e", min_size=120, max_size=300))
def test_a_file_name_is_read_back_and_making_it_safe_twice_changes_nothing(text: str) -> None:
    name = safe_filename(text)
    assert safe_filename(name) == name
    assert name
    assert len(name.encode()) <= 255
    assert not set(name) & set("/\\\r\n\0\u202e")
    field = disposition_field("attachment", name)
    assert read_field(field).get_filename() == name
    assert max(map(len, field.split("\r\n"))) <= 998


@pytest.mark.parametrize("name", ["a.pdf", 'a "b".pdf', "ação.pdf", "日本" * 40 + ".pdf", "a  b.pdf", "x" * 255])
def test_the_name_in_the_content_type_is_read_back(name: str) -> None:
    message = read_field(content_type_field("application/pdf", name))
    assert message.get_content_type() == "application/pdf"
    assert message["Content-Type"].params["name"] == name
    assert list(message.keys()) == ["Content-Type"]
