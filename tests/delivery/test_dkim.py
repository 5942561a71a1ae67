"""What is signed, judged by dkimpy, opendkim and the vectors of RFC 8463: accepted as it is, refused when it was changed."""

import base64
import hashlib
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.delivery.data import encode_data
from email_gateway.delivery.dkim import PIECE_OCTETS, Signer, hash_body, relax_field, sign
from email_gateway.mail.compose import compose
from email_gateway.mail.content import Address, Attachment, Content
from email_gateway.mail.domains import Algorithm, key_record_value
from tests.plugins.system_packages import get_program

AT = 1_795_000_000
RSA = Signer("acme.example", "eg-1-rsa", generate_private_key(65537, 2048))
ED25519 = Signer("acme.example", "eg-1-ed25519", Ed25519PrivateKey.generate())
BOTH = (RSA, ED25519)

# RFC 8463 appendix A.
RFC_RSA = """-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""
RFC_ED25519 = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
RFC_MAIL = (
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"\r\n"
    b"Hi.\r\n"
    b"\r\n"
    b"We lost the game.  Are you hungry yet?\r\n"
    b"\r\n"
    b"Joe.\r\n"
)
RFC_FIELDS = {
    "brisbane": (
        (
            "v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
            " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
            " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
        ),
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==",
    ),
    "test": (
        (
            "v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
            " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n"
            " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
        ),
        (
            "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2"
            "JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
        ),
    ),
}


def record_of(signer: Signer) -> str:
    if isinstance(signer.key, RSAPrivateKey):
        public = signer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        public = signer.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return key_record_value(signer.algorithm, public)


RECORDS = {f"{each.selector}._domainkey.{each.domain}.".encode(): record_of(each).encode() for each in BOTH}


def accepts(mail: bytes) -> list[bool]:
    """What dkimpy says to each signature of a mail, the topmost first."""
    count = mail.count(b"DKIM-Signature: ")
    judge = dkim.DKIM(mail, minkey=1024)
    return [judge.verify(idx=at, dnsfunc=lambda name, **_: RECORDS.get(name)) for at in range(count)]


def refuses(mail: bytes) -> bool:
    try:
        return not any(accepts(mail))
    except dkim.DKIMException:
        return True


def content(text: str | None = "Due on Friday.", **changes: object) -> Content:
    given: dict[str, object] = {
        "sender": Address("billing@acme.example", "Acme"),
        "envelope": ("maria@example.net",),
        "to": (Address("maria@example.net"),),
        "subject": "Your invoice",
        "text": text,
        **changes,
    }
    return Content(**given)  # type: ignore[arg-type]


def written(given: Content, *attachments: Attachment) -> bytes:
    return compose(given, attachments, message_id=UUID(int=7), created_at=datetime(2026, 11, 30, tzinfo=UTC))


def received(mail: bytes) -> bytes:
    """What a server has after DATA, its dots taken off again."""
    return encode_data(mail).replace(b"\r\n..", b"\r\n.")


FULL = content(
    cc=(Address("joao@example.net"),),
    reply_to=(Address("r@acme.example"),),
    headers=(
        ("List-Unsubscribe", "<https://acme.example/u>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("X-Trace", "1"),
    ),
)


@pytest.mark.parametrize("signers", [(RSA,), (ED25519,), BOTH], ids=["rsa", "ed25519", "both"])
def test_what_is_signed_is_accepted_by_another_reader(signers: tuple[Signer, ...]) -> None:
    signed = sign(written(FULL), signers, AT)
    assert accepts(received(signed)) == [True] * len(signers)
    assert signed.endswith(written(FULL))


def test_the_signatures_name_what_they_cover_and_cover_all_of_the_body() -> None:
    head = sign(written(FULL), BOTH, AT).partition(b"From: ")[0].decode()
    for field in head.split("DKIM-Signature: ")[1:]:
        tags = {name.strip(): value for name, _, value in (part.partition("=") for part in field.split(";"))}
        assert "l" not in tags
        assert (tags["c"], tags["d"], tags["t"]) == ("relaxed/relaxed", "acme.example", str(AT))
        names = "".join(tags["h"].split()).split(":")
        assert names.count("from") == 2
        assert set(names) >= {
            "to", "cc", "reply-to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post",
            "mime-version", "content-type", "content-transfer-encoding",
        }  # fmt: skip
        assert "x-trace" not in names
        assert max(map(len, field.splitlines())) <= 78
    assert [line.partition("a=")[2][:8] for line in head.splitlines() if "a=" in line and "v=1" in line] == [
        "rsa-sha2", "ed25519-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Due on Friday.", b"Due on Monday."),
        (b"Due on Friday.\r\n", b"Due on Friday.\r\nPay here.\r\n"),
        (b"From: Acme", b"From: Acne"),
        (b"From: Acme", b"From: Eve <eve@evil.example>\r\nFrom: Acme"),
        (b"Subject: Your invoice", b"Subject: Our invoice"),
        (b"Subject: ", b"Subject: Other\r\nSubject: "),
        (b"<https://acme.example/u>", b"<https://evil.example/u>"),
        (b"List-Unsubscribe=One-Click", b"List-Unsubscribe=Two-Click"),
        (b"r@acme.example", b"r@evil.example"),
        (b"Content-Type: text/plain", b"Content-Type: text/html"),
        (b"t=1795000000", b"t=1795000001"),
    ],
)
def test_what_was_changed_is_refused(old: bytes, new: bytes) -> None:
    signed = received(sign(written(FULL), BOTH, AT))
    assert old in signed
    assert refuses(signed.replace(old, new))


def test_the_same_message_and_time_give_the_same_octets() -> None:
    assert sign(written(FULL), BOTH, AT) == sign(written(FULL), BOTH, AT)


def test_addresses_beyond_ascii_are_signed_as_they_stand() -> None:
    signed = sign(written(content(to=(Address("josé@example.net", "José"),))), BOTH, AT)
    assert "josé".encode() in signed
    assert accepts(received(signed)) == [True, True]


@given(st.text(alphabet=st.sampled_from(" \t\r\n.aé=-"), max_size=200), st.booleans())
def test_awkward_bodies_are_accepted(text: str, is_html: bool) -> None:
    body = content(None, html=text) if is_html else content(text)
    assert accepts(received(sign(written(body), BOTH, AT))) == [True, True]


@given(
    st.lists(st.text(alphabet=st.sampled_from(" \ta.ü"), max_size=1200), max_size=6),
    st.sampled_from(["\r\n", "\r\n\r\n\r\n", " \r\n", " \t\r\n \r\n"]),
)
def test_bodies_that_others_wrote_are_accepted(lines: list[str], end: str) -> None:
    # 8-bit, bare white space at the end and in the middle, long lines, empty lines at the end.
    raw = b"From: a@acme.example\r\nSubject:  two\r\n\t folds \r\n\r\n" + ("\r\n".join(lines) + end).encode()
    assert accepts(sign(raw, BOTH, AT)) == [True, True]


@pytest.mark.parametrize("raw", [b"From: a@acme.example\r\n\r\n", b"From: a@acme.example\r\n"])
def test_an_empty_body_is_accepted(raw: bytes) -> None:
    signed = sign(raw, BOTH, AT)
    assert base64.b64encode(hashlib.sha256().digest()) in signed
    assert accepts(signed) == [True, True]


def test_a_body_of_several_pieces_is_hashed_as_one() -> None:
    lines = b"".join(b"line %d  of\tmany \r\n" % number for number in range(PIECE_OCTETS // 8))
    relaxed = b"".join(b"line %d of many\r\n" % number for number in range(PIECE_OCTETS // 8))
    assert hash_body(lines + b" \r\n\r\n") == hashlib.sha256(relaxed).digest()
    assert accepts(sign(b"From: a@acme.example\r\n\r\n" + lines, BOTH, AT)) == [True, True]


def test_attachments_are_covered() -> None:
    mail = written(FULL, Attachment("a.pdf", "application/pdf", bytes(range(256)) * 300))
    signed = received(sign(mail, BOTH, AT))
    assert accepts(signed) == [True, True]
    assert refuses(signed.replace(b"AAECAwQFBgcICQ", b"BAECAwQFBgcICQ", 1))


@pytest.mark.needs("opendkim")
def test_opendkim_accepts_both_and_refuses_what_was_changed(tmp_path: Path) -> None:
    records = "".join(f"{name.decode().rstrip('.')} {record.decode()}\n" for name, record in RECORDS.items())
    (tmp_path / "records").write_text(records)
    (tmp_path / "conf").write_text(f"Mode v\nTestDNSData {tmp_path}/records\n")
    signed = received(sign(written(FULL), BOTH, AT))
    for mail, word in ((signed, "pass"), (signed.replace(b"Friday", b"Monday"), "fail")):
        (tmp_path / "mail").write_bytes(mail)
        command = [get_program("opendkim"), "-x", str(tmp_path / "conf"), "-vv", "-t", str(tmp_path / "mail")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert re.findall(r"dkim=(\w+) .*header.a=(\S+)", said) == [(word, "rsa-sha256"), (word, "ed25519-sha256")]


@pytest.mark.parametrize("selector", RFC_FIELDS)
def test_the_vectors_of_rfc_8463_come_out(selector: str) -> None:
    field, signature = RFC_FIELDS[selector]
    key = {
        "test": load_pem_private_key(RFC_RSA.encode(), None),
        "brisbane": Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_ED25519)),
    }[selector]
    assert isinstance(key, RSAPrivateKey | Ed25519PrivateKey)
    head, _, body = RFC_MAIL.partition(b"\r\n\r\n")
    assert base64.b64encode(hash_body(body)).decode() == "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    values = {line.partition(b":")[0].decode().lower(): line.partition(b":")[2] for line in head.split(b"\r\n")}
    signed = b"".join(
        relax_field(name, values[name]) + b"\r\n" for name in ("from", "to", "subject", "date", "message-id")
    )
    octets = signed + relax_field("dkim-signature", f" {field}".encode())
    assert base64.b64encode(Signer("football.example.com", selector, key).sign(octets)).decode() == signature


def test_the_key_of_rfc_8463_is_published_as_it_says() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_ED25519))
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert key_record_value(Algorithm.ED25519, raw) == (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    )


def test_a_signer_shows_no_private_key() -> None:
    assert repr(ED25519) == "Signer(domain='acme.example', selector='eg-1-ed25519')"
