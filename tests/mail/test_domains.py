"""What stands in the DNS, read as verifiers read it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.domains import (
    Algorithm,
    Shown,
    judge_dmarc,
    judge_key_record,
    judge_spf,
    key_record_name,
    key_record_value,
    lineage_of,
    parse_tags,
)

KEY = bytes(range(32))
P = base64.b64encode(KEY).decode()


@given(st.binary(min_size=1, max_size=300), st.sampled_from(Algorithm))
def test_what_is_to_be_published_is_right_once_it_is(public: bytes, algorithm: Algorithm) -> None:
    assert judge_key_record([key_record_value(algorithm, public)], algorithm, public) is Shown.RIGHT
    assert judge_key_record([key_record_value(algorithm, public + b"x")], algorithm, public) is Shown.DIFFERENT


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        ([], Shown.MISSING),
        ([f"v=DKIM1; k=rsa; p={P}"], Shown.RIGHT),
        ([f"p={P}"], Shown.RIGHT),  # rsa is the default
        ([f"v=DKIM1;k=rsa;p={P};"], Shown.RIGHT),
        ([f"v=DKIM1; k=rsa; h=sha1:sha256; s=email:other; t=s; n=note; p={P[:9]} \t{P[9:]} ; "], Shown.RIGHT),
        ([f"v=DKIM1; k=rsa; h=sha1; p={P}"], Shown.DIFFERENT),
        ([f"v=DKIM1; k=rsa; s=other; p={P}"], Shown.DIFFERENT),
        ([f"v=DKIM2; k=rsa; p={P}"], Shown.DIFFERENT),
        ([f"v=DKIM1; k=ed25519; p={P}"], Shown.DIFFERENT),
        ([f"v=DKIM1; k=rsa; p={P[:-4]}"], Shown.DIFFERENT),
        ([f"v=DKIM1; k=rsa; p={P[:-1]}"], Shown.DIFFERENT),
        ([f"v=DKIM1; k=rsa; p={P}é"], Shown.DIFFERENT),
        ([f"v=DKIM1; p={P}; p={P}"], Shown.DIFFERENT),
        (["v=DKIM1; k=rsa; p="], Shown.DIFFERENT),  # revoked
        (["v=DKIM1; k=rsa"], Shown.DIFFERENT),
        (["hello"], Shown.DIFFERENT),
        ([""], Shown.DIFFERENT),
        ([f"v=DKIM1; k=rsa; p={P}"] * 2, Shown.SEVERAL),
    ],
)
def test_a_key_record_is_judged(texts: list[str], shown: Shown) -> None:
    assert judge_key_record(texts, Algorithm.RSA, KEY) is shown


@given(st.text(max_size=80))
def test_whatever_stands_there_is_judged(text: str) -> None:
    assert judge_key_record([text], Algorithm.RSA, KEY) in Shown
    parse_tags(text)
    judge_spf([text])
    judge_dmarc([text])


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["v=spf1 include:amazonses.com ~all", "google-site-verification=x"], Shown.RIGHT),
        (["V=SPF1"], Shown.RIGHT),
        (["v=spf10 -all", "spf"], Shown.MISSING),
        (["v=spf1 -all", "v=spf1 ~all"], Shown.SEVERAL),
    ],
)
def test_an_spf_record_is_found(texts: list[str], shown: Shown) -> None:
    assert judge_spf(texts).shown is shown


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["v=DMARC1; p=reject"], Shown.RIGHT),
        (["v=DMARC1;p=none", "other"], Shown.RIGHT),
        (["v=DMARC12; p=reject", "p=reject"], Shown.MISSING),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], Shown.SEVERAL),
    ],
)
def test_a_dmarc_record_is_found(texts: list[str], shown: Shown) -> None:
    assert judge_dmarc(texts).shown is shown


def test_a_name_has_parents_down_to_two_labels() -> None:
    assert lineage_of("a.b.acme.example") == ["a.b.acme.example", "b.acme.example", "acme.example"]
    assert lineage_of("acme.example") == ["acme.example"]
    assert lineage_of("example") == ["example"]


def test_a_key_stands_below_domainkey() -> None:
    assert key_record_name("eg-1-rsa", "acme.example") == "eg-1-rsa._domainkey.acme.example"
