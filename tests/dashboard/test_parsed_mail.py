import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from email_gateway.dashboard.parsed_mail import MailFile, parse_headers, parse_mail, with_inline_images
from tests.dashboard.house import raw_mail

PIECES = st.sampled_from(
    [
        b"From: ", b"To: ", b"Subject: ", b"Date: ", b"Content-Type: ", b"Content-Disposition: ", b"multipart/mixed",
        b"; boundary=b", b"; boundary=", b"; charset=", b"--b\r\n", b"--b--\r\n", b"\r\n", b"\r\n\r\n", b"message/rfc822",
        b"text/html", b"attachment; filename*=", b"utf-8''%", b"=?utf-8?q?", b"?=", b"<", b">", b"@", b",", b";", b'"',
        b"\x00", b"\xff", b" ", b"(", b"[", b"Content-Transfer-Encoding: base64", b"Content-ID: <", b"a", b":", b"\\",
    ]
)  # fmt: skip


def test_the_parts_of_a_mail_are_found() -> None:
    mail = parse_mail(raw_mail(html="<p>Hi", files=(("a.pdf", "application/pdf", b"%PDF"),)))
    assert mail.header("Subject") == "Your invoice"
    assert mail.text == "It is due on Friday.\n"
    assert mail.html == "<p>Hi\n"
    assert [(file.filename, file.content_type, file.data) for file in mail.files] == [
        ("a.pdf", "application/pdf", b"%PDF")
    ]


def test_encoded_words_and_odd_charsets_are_read() -> None:
    raw = (
        b"Subject: =?utf-8?b?T2zDoQ==?=\r\nContent-Type: text/plain; charset=no-such-charset\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\nfatura \xc3\xa7\xff\r\n"
    )
    mail = parse_mail(raw)
    assert mail.header("Subject") == "Olá"
    assert mail.text == "fatura ç\ufffd\n"


def test_an_address_in_utf8_is_shown_as_it_is() -> None:
    raw = "From: Acme <a@acme.example>\r\nTo: =?utf-8?b?Sm9zw6k=?= <josé@example.net>\r\n\r\nDue.\r\n".encode()
    assert parse_mail(raw).header("To") == "José <josé@example.net>"
    assert parse_headers(raw).header("To") == "José <josé@example.net>"


def test_an_attached_mail_is_one_file() -> None:
    inner = raw_mail(subject="Inside", html="<script>alert(1)</script>")
    raw = (
        b'Subject: Outside\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
        b"See it\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
    )
    mail = parse_mail(raw)
    assert mail.text == "See it"
    assert mail.html is None
    assert [file.content_type for file in mail.files] == ["message/rfc822"]
    assert b"Inside" in mail.files[0].data


def test_deep_nesting_ends() -> None:
    raw = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(2000))
    assert parse_mail(raw).html is None


def test_headers_are_read_without_the_body() -> None:
    mail = parse_headers(raw_mail())
    assert mail.header("To") == "Maria Silva <maria@example.com>"
    assert mail.text is None or mail.text == ""


@given(st.lists(st.one_of(PIECES, st.binary(max_size=12)), max_size=40).map(b"".join))
@settings(max_examples=400, deadline=None)
def test_no_mail_makes_the_parser_raise(raw: bytes) -> None:
    parse_mail(raw)
    parse_headers(raw)


@pytest.mark.parametrize("content_type", ["image/svg+xml", "text/html", 'image/png"><script>'])
def test_only_plain_images_are_put_into_the_html(content_type: str) -> None:
    png = MailFile("a.png", "image/png", b"png", "logo@x")
    other = MailFile("b", content_type, b"<svg>", "other@x")
    html = with_inline_images('<img src="cid:logo@x"><img src="cid:other@x"><img src="cid:none">', (png, other))
    assert html == '<img src="data:image/png;base64,cG5n"><img src="cid:other@x"><img src="cid:none">'


def test_an_image_named_a_thousand_times_is_put_in_once() -> None:
    image = MailFile("a.png", "image/png", b"x" * 100_000, "a")
    assert len(with_inline_images("cid:a " * 1000, (image,))) < 200_000
