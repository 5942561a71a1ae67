"""CPF and CNPJ against vectors written by others, their packed form, and their silence."""

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.br import cnpj, cpf

from email_gateway.mail.tax_ids import InvalidTaxId, TaxId, TaxIdKind, parse_tax_id, unpack_tax_id

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "tax-ids.json").read_text())
CPF = "529.982.247-25"
CNPJ = "12.ABC.345/01DE-35"


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["input"])
def test_a_valid_number_is_read_into_its_canonical_form(vector: dict[str, str]) -> None:
    tax_id = parse_tax_id(vector["input"])
    assert (tax_id.kind.name.lower(), tax_id.canonical) == (vector["kind"], vector["canonical"])
    assert parse_tax_id(tax_id.canonical) == tax_id
    assert unpack_tax_id(tax_id.pack()) == tax_id


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_an_invalid_number_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(InvalidTaxId):
        parse_tax_id(vector["input"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("529 982 247 25", "spaces inside"),
        ("529-982-247-25", "hyphens in place of dots"),
        ("529.982.247-25\n", "line feed"),
        ("\t529.982.247-25", "tab"),
        ("52998224725\u00a0", "no-break space"),
        ("5.2.9.9.8.2.2.4.7.2.5", "dots anywhere"),
        ("12.ABC.345/01DE\u201335", "en dash"),
        ("12.ABC.345\\01DE-35", "backslash"),
        ("\u0131GXLPBYRJD1P20", "a dotless i, which upper-cases into ASCII"),
        ("\uff15\uff12\uff19\uff19\uff18\uff12\uff12\uff14\uff17\uff12\uff15", "full-width digits of a CPF"),
        ("529.982.247-2X", "letter in a CPF"),
        ("0529.982.247-25", "a leading zero too many"),
        ("0" * 1_000_000, "a megabyte"),
        ("22222222222222", "repeated digits"),
    ],
    ids=lambda value: None if len(value) > 40 else value,
)
def test_other_spellings_are_refused(text: str, why: str) -> None:
    assert why
    with pytest.raises(InvalidTaxId):
        parse_tax_id(text)


@pytest.mark.parametrize("digit", "0123456789")
def test_a_cpf_of_one_repeated_digit_is_refused(digit: str) -> None:
    with pytest.raises(InvalidTaxId, match="one digit alone"):
        parse_tax_id(digit * 11)


def test_blanks_around_a_number_are_ignored() -> None:
    assert parse_tax_id(f"  {CPF} ").canonical == "52998224725"


@pytest.mark.parametrize("text", ["52998224724", "12ABC34501DE36", "5299822472", "11111111111", "12ABC34501DEA5"])
def test_a_refusal_never_repeats_the_number(text: str) -> None:
    with pytest.raises(InvalidTaxId) as refusal:
        parse_tax_id(text)
    said = "".join(traceback.format_exception(refusal.value))
    assert text not in said


def test_no_form_for_people_or_logs_shows_the_number() -> None:
    for text in (CPF, CNPJ):
        tax_id = parse_tax_id(text)
        assert tax_id.canonical not in repr(tax_id) + str(tax_id) + f"{tax_id}"
        assert tax_id.canonical not in tax_id.masked
    assert parse_tax_id(CPF).masked == "***.***.247-**"
    assert parse_tax_id(CNPJ).masked == "**.***.345/****-**"
    assert repr(parse_tax_id(CPF)) == "TaxId(CPF)"


def test_the_packed_form_is_what_is_sealed_for_ever() -> None:
    assert parse_tax_id(CPF).pack() == b"\x01\x0b52998224725\0\0\0"
    assert parse_tax_id(CNPJ).pack() == b"\x02\x0e12ABC34501DE35"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01\x0b52998224725\0\0",
        b"\x01\x0b52998224725\0\0\0\0",
        b"\x00\x0b52998224725\0\0\0",
        b"\x03\x0b52998224725\0\0\0",
        b"\x01\x0a52998224725\0\0\0",
        b"\x01\x0b52998224725\0\x01\0",
        b"\x01\x0e52998224725\0\0\0",
        b"\x02\x0b52998224725\0\0\0",
        b"\x02\x0f12ABC34501DE35",
        b"\x02\x0e12abc34501de35",
        b"\x02\xff12ABC34501DE35",
    ],
)
def test_anything_else_does_not_unpack(packed: bytes) -> None:
    with pytest.raises(ValueError, match="packed"):
        unpack_tax_id(packed)


@given(st.binary(min_size=16, max_size=16) | st.binary(min_size=14, max_size=14).map(lambda b: b"\x02\x0e" + b))
def test_what_unpacks_packs_into_the_same_octets(packed: bytes) -> None:
    try:
        tax_id = unpack_tax_id(packed)
    except ValueError:
        return
    assert tax_id.pack() == packed


@given(st.text(alphabet="0123456789ABCabc.-/ \u0661", max_size=20))
def test_every_accepted_spelling_has_one_canonical_form(text: str) -> None:
    try:
        tax_id = parse_tax_id(text)
    except InvalidTaxId:
        return
    assert tax_id.canonical.isascii()
    assert tax_id.canonical == "".join(c for c in text if c not in ".-/ ").upper()
    assert tax_id == TaxId(TaxIdKind(tax_id.kind), tax_id.canonical)


@given(st.from_regex(r"[0-9]{11}|[0-9A-Z]{12}[0-9]{2}", fullmatch=True), st.booleans())
def test_check_digits_agree_with_an_independent_implementation(number: str, make_valid: bool) -> None:
    judge, digits_of = (cpf, cpf._calc_check_digits) if len(number) == 11 else (cnpj, cnpj.calc_check_digits)
    if make_valid:
        number = number[:-2] + digits_of(number[:-2])
    is_repeated = len(set(number)) == 1
    try:
        accepted = parse_tax_id(number).canonical
    except InvalidTaxId:
        accepted = None
    assert accepted == (number if judge.is_valid(number) and not is_repeated else None)
