"""Addresses: what is read, what is refused, and that no refusal repeats what was sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.addresses import InvalidAddress, canonical_address, parse_address
from email_gateway.mail.content import Address

ACCEPTED = [
    ("user@example.com", "user@example.com", None),
    ("  user@example.com ", "user@example.com", None),
    ("User.Name+tag@EXAMPLE.Com", "User.Name+tag@example.com", None),
    ("o'brien@example.ie", "o'brien@example.ie", None),
    ("<user@example.com>", "user@example.com", None),
    ("Acme <user@example.com>", "user@example.com", "Acme"),
    ("Acme<user@example.com>", "user@example.com", "Acme"),
    ("Acme Inc. <user@example.com>", "user@example.com", "Acme Inc."),
    ("João da Silva <joao@exemplo.com.br>", "joao@exemplo.com.br", "João da Silva"),
    ('"Silva, João" <joao@exemplo.com.br>', "joao@exemplo.com.br", "Silva, João"),
    ('"Silva, João"<joao@exemplo.com.br>', "joao@exemplo.com.br", "Silva, João"),
    (r'"A \"quoted\" \\ name" <user@example.com>', "user@example.com", r'A "quoted" \ name'),
    ('"user@example.com" <user@example.com>', "user@example.com", "user@example.com"),
    ('"<other@example.org>" <user@example.com>', "user@example.com", "<other@example.org>"),
    ('"" <user@example.com>', "user@example.com", None),
    ('"  " <user@example.com>', "user@example.com", None),
    ("株式会社 <info@example.jp>", "info@example.jp", "株式会社"),
    ("user@bücher.example", "user@xn--bcher-kva.example", None),
    ("user@BÜCHER.example", "user@xn--bcher-kva.example", None),
    ("user@XN--BCHER-KVA.example", "user@xn--bcher-kva.example", None),
    ("user@例え.テスト", "user@xn--r8jz45g.xn--zckzah", None),
    ("user@example。com", "user@example.com", None),
    ("user@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "user@example.com", None),
    ("user@1and1.example", "user@1and1.example", None),
    ("Acme (Billing) <a@acme.example>", "a@acme.example", "Acme (Billing)"),
    ("Silva, Ana <a@acme.example>", "a@acme.example", "Silva, Ana"),
    ("Silva, João <joao@example.com>", "joao@example.com", "Silva, João"),
    ('Ana "Nina" Silva <a@acme.example>', "a@acme.example", 'Ana "Nina" Silva'),
    ('"Nina" and "Ana" <a@acme.example>', "a@acme.example", '"Nina" and "Ana"'),
    ('"Silva, Ana" (Billing) <a@acme.example>', "a@acme.example", '"Silva, Ana" (Billing)'),
    ('6" Pipes <a@acme.example>', "a@acme.example", '6" Pipes'),
    ('"Acme <a@acme.example>', "a@acme.example", '"Acme'),
    ("Acme: Billing; Dept. [3] <a@acme.example>", "a@acme.example", "Acme: Billing; Dept. [3]"),
    ("Acme \\ Sons <a@acme.example>", "a@acme.example", "Acme \\ Sons"),
    ("Acme @ Home <a@acme.example>", "a@acme.example", "Acme @ Home"),
    ("@acme <a@acme.example>", "a@acme.example", "@acme"),
    ('"Silva (Ana) \u003ca@x.example\u003e, Bia" <a@acme.example>', "a@acme.example", "Silva (Ana) <a@x.example>, Bia"),
    ("josé@example.net", "josé@example.net", None),
    ("jose\u0301@example.net", "josé@example.net", None),
    ("José <josé@bücher.example>", "josé@xn--bcher-kva.example", "José"),
    ("用户.名@例え.テスト", "用户.名@xn--r8jz45g.xn--zckzah", None),
    ("हिन्दी+tag@example.net", "हिन्दी+tag@example.net", None),
    ("📧@example.net", "📧@example.net", None),
    ("é" * 32 + "@example.com", "é" * 32 + "@example.com", None),
    ("a@b.co", "a@b.co", None),
    ("x" * 64 + "@example.com", "x" * 64 + "@example.com", None),
    (f"user@{'a' * 63}.com", f"user@{'a' * 63}.com", None),
]


@pytest.mark.parametrize(("text", "email", "name"), ACCEPTED)
def test_an_address_is_read_into_its_canonical_parts(text: str, email: str, name: str | None) -> None:
    assert parse_address(text) == Address(email, name)


REFUSED = [
    ("", "empty"),
    (" ", "blank"),
    ("user", "no @"),
    ("@example.com", "no local part"),
    ("user@", "no domain"),
    ("<>", "null path"),
    ("Name <>", "empty path"),
    ("Name", "a name alone"),
    ("Name user@example.com", "no angle brackets"),
    ("Name <user@example.com", "unclosed bracket"),
    ("Name user@example.com>", "unopened bracket"),
    ("<<user@example.com>>", "doubled brackets"),
    ("<user@example.com> trailing", "text behind the path"),
    ("<user@example.com><other@example.org>", "two paths"),
    ("user@example.com, other@example.org", "a list"),
    ("user@example.com;other@example.org", "a list with a semicolon"),
    ("user@example.com other@example.org", "a list with a space"),
    ("ana@example.com, Bia <bia@example.com>", "a list whose first has no brackets"),
    ("Ana <ana@example.com>, Bia <bia@example.com>", "a list with names"),
    ('"Ana" <ana@example.com>, "Bia" <bia@example.com>', "a list with quoted names"),
    ('Ana "Nina <a@x.example>, b" <user@example.com>', "quotes that hide an address inside a name"),
    ("ceo@bank.example <x@evil.example>", "an address as an unquoted name"),
    ('"Name" user@example.com', "a quoted name without brackets"),
    ('"a@evil.example"@example.com', "quoted local part with @"),
    ('"user name"@example.com', "quoted local part"),
    ('"user"@example.com', "quoted local part without need"),
    ("a@evil.example@example.com", "two @"),
    ("user@@example.com", "doubled @"),
    ("user(comment)@example.com", "comment in the local part"),
    ("user@example.com(comment)", "comment behind"),
    ("(comment)user@example.com", "comment before"),
    ("Friends: user@example.com;", "group"),
    ("Friends: a <a@example.com>, b <b@example.com>;", "group of two"),
    ("undisclosed-recipients:;", "empty group"),
    ("<@relay.example:user@example.com>", "source route"),
    ("@relay.example,@b.example:user@example.com", "bare source route"),
    ("user%evil.example@example.com", "percent route"),
    ("evil.example!user@example.com", "bang path"),
    (".user@example.com", "leading dot"),
    ("user.@example.com", "trailing dot before the @"),
    ("us..er@example.com", "doubled dot"),
    (".@example.com", "a dot alone"),
    ("us er@example.com", "space in the local part"),
    ("user @example.com", "space before the @"),
    ("user@ example.com", "space behind the @"),
    ("< user@example.com>", "space inside the brackets"),
    ("user@example.com.", "trailing dot"),
    ("user@example..com", "empty label"),
    ("user@.example.com", "leading dot of the domain"),
    ("user@-example.com", "leading hyphen"),
    ("user@example-.com", "trailing hyphen"),
    ("user@exa_mple.com", "underscore"),
    ("user@exam ple.com", "space in the domain"),
    ("user@localhost", "single label"),
    ("user@[127.0.0.1]", "IPv4 literal"),
    ("user@[IPv6:::1]", "IPv6 literal"),
    ("user@127.0.0.1", "bare IPv4"),
    ("user@0x7f.0x1", "IPv4 in hexadecimal"),
    ("user@example.123", "numeric last label"),
    (f"user@{'a' * 64}.com", "label of 64"),
    ("x" * 65 + "@example.com", "local part of 65"),
    ("u@" + ".".join(["a" * 60] * 5) + ".com", "domain of 309"),
    ("x" * 64 + "@" + ".".join(["a" * 60] * 3) + ".example", "255 octets together"),
    ("user@" + ".".join(["é" * 30] * 7) + ".com", "over 254 only as A-labels"),
    ("é" * 33 + "@example.com", "local part of 66 octets"),
    ("us\u00a0ér@example.com", "no-break space in the local part"),
    ("us\u200bér@example.com", "zero-width space in the local part"),
    ("us\ue000r@example.com", "private use in the local part"),
    ("victim\uff20evil.example@example.com", "full-width @ in the local part"),
    ("\uff55ser@example.com", "full-width letter in the local part"),
    ("o\ufb03ce@example.com", "ligature in the local part"),
    ("usér..x@example.com", "doubled dot beside UTF-8"),
    ("usé r@example.com", "space beside UTF-8"),
    ("<usér@example.com", "bracket beside UTF-8"),
    ("user\uff20example.com", "full-width @"),
    ("user@exam\u00adple.com", "soft hyphen, which IDNA drops"),
    ("user@exam\u200bple.com", "zero-width space, which IDNA drops"),
    ("user@exam\ufe0fple.com", "variation selector, which IDNA drops"),
    ("user@xn--a.com", "not an A-label"),
    ("user@xn--.com", "an A-label of nothing"),
    ("user@☃.example", "a symbol that IDNA 2008 refuses"),
    ("user@a\u0338.example\uff20b.example", "a mapped @"),
    ("user@example\uff0f.com", "a mapped slash"),
    ("user@example.com\n", "trailing LF, which email.utils drops"),
    ("user@example.com\r\nRCPT TO:<x@evil.example>", "CRLF and a command"),
    ("Na\nme <user@example.com>", "LF in the name"),
    ('"Na\r\n me" <user@example.com>', "folding in the name"),
    ("Na\tme <user@example.com>", "tab in the name"),
    ("us\0er@example.com", "NUL"),
    ("Na\x85me <user@example.com>", "C1 next line"),
    ("Na\x7fme <user@example.com>", "DEL"),
    ("Na\u2028me <user@example.com>", "line separator"),
    ("Na\u2029me <user@example.com>", "paragraph separator"),
    ("Na\u202eme <user@example.com>", "right-to-left override"),
    ("Na\u2066me <user@example.com>", "isolate"),
    ("Na\u200eme <user@example.com>", "left-to-right mark"),
    ("Na\ud800me <user@example.com>", "lone surrogate"),
    ("user@\ud800.example", "lone surrogate in the domain"),
    ("N" * 257 + " <user@example.com>", "name of 257"),
]


@pytest.mark.parametrize("text", [text for text, _ in REFUSED], ids=[why for _, why in REFUSED])
def test_a_nasty_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress) as refusal:
        parse_address(text)
    # A library's own error would repeat the domain.
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["marked.local@@example.com", "marked@x.example, name <marked@x.example>", "a@marked_.com"]
)
def test_a_refusal_never_repeats_the_address(text: str) -> None:
    with pytest.raises(InvalidAddress) as refusal:
        parse_address(text)
    assert "marked" not in str(refusal.value) + repr(refusal.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("us\u00a0ér@example.com", "invisible"),
        ("\uff55ser@example.com", "full-width"),
        ('"user"@example.com', "without quotes"),
        ("user@[127.0.0.1]", "IP addresses"),
        ("user@example.com.", "dot at the end"),
        ("us..er@example.com", "doubled dot"),
        ("a!b@example.com", "routed"),
        ("a@" + "b." * 150 + "com", "domain to 255"),
        ("ana@example.com, Bia <bia@example.com>", "double quotes"),
        ("Na\u202eme <user@example.com>", "text-direction"),
    ],
)
def test_a_refusal_says_what_to_change(text: str, advice: str) -> None:
    with pytest.raises(InvalidAddress, match=advice):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "g:" * 500_000 + "a@example.com" + ";" * 500_000,
        "(" * 1_000_000,
        '"' + "\\" * 1_000_000,
        "<" * 500_000 + ">" * 500_000,
        "a." * 500_000 + "@example.com",
        "user@" + "a." * 500_000 + "com",
        " " * 1_000_000 + "user@example.com",
    ],
    ids=["groups", "comments", "escapes", "brackets", "dots", "labels", "spaces"],
)
def test_a_megabyte_is_refused_by_its_length_alone(text: str) -> None:
    with pytest.raises(InvalidAddress, match="shorten"):
        parse_address(text)
    with pytest.raises(InvalidAddress, match="shorten"):
        canonical_address(text)


@given(st.text(max_size=80) | st.text(alphabet='a@.<>"\\ ,:;()é\r\n', max_size=30))
def test_whatever_is_read_is_safe_in_an_envelope_and_reads_the_same_again(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidAddress:
        return
    assert address.domain.isascii()
    assert not set(address.email) & set(' <>"(),:;\\[]\r\n\t\0')
    assert address.email.count("@") == 1
    assert parse_address(address.email) == Address(address.email)


def test_the_canonical_form_ignores_case_and_the_spelling_of_the_domain() -> None:
    forms = ["User@Bücher.example", "user@xn--bcher-kva.EXAMPLE", "USER@BÜCHER.EXAMPLE"]
    assert {canonical_address(form) for form in forms} == {b"user@xn--bcher-kva.example"}


def test_the_canonical_form_beyond_ascii_is_one_for_every_spelling() -> None:
    forms = ["josé@example.net", "JOSÉ@example.net", "Jose\u0301@EXAMPLE.net"]
    assert {canonical_address(form) for form in forms} == {"josé@example.net".encode()}
    once = canonical_address("\u0130brahim@example.net")
    assert canonical_address(once.decode()) == once


def test_the_canonical_form_takes_no_name() -> None:
    with pytest.raises(InvalidAddress):
        canonical_address("Name <user@example.com>")


def test_the_case_of_the_local_part_is_kept_for_delivery() -> None:
    assert parse_address("User@Example.COM").email == "User@example.com"
