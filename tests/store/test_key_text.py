"""An API key as text: what is mistyped is told without a database, what was made before is not."""

import re
import zlib
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from email_gateway.observe.redaction import HIDDEN, clean_text, clean_value
from email_gateway.store.key_text import (
    CHECKSUM_DIGITS,
    DIGITS,
    KEY_CHARACTERS,
    PATTERN,
    checksum,
    is_mistyped,
    is_shaped_like_key,
    make_key_text,
)

BORDER = KEY_CHARACTERS - CHECKSUM_DIGITS
URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

bodies = st.builds(
    "eg_{}_{}".format,
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.text(URL_SAFE, min_size=43, max_size=43),
)
keys = bodies.map(lambda body: body.encode() + checksum(body.encode()))
places = st.integers(0, KEY_CHARACTERS - 1)


def is_refused(key: bytes) -> bool:
    """Refused before anything is asked of the database."""
    return not is_shaped_like_key(key) or is_mistyped(key)


def test_a_key_just_made_is_of_the_documented_form_and_its_secret_is_not_shown() -> None:
    made = make_key_text()
    assert re.fullmatch(PATTERN, made.secret)
    assert len(made.secret) == KEY_CHARACTERS
    assert made.secret.startswith(f"{made.prefix}_")
    assert not is_refused(made.secret.encode())
    assert made.secret not in repr(made)
    assert make_key_text() != made


def test_the_page_has_the_pattern_for_scanners() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tenants.md").read_text()
    assert f"\n```regex\n{PATTERN}\n```\n" in page


def test_the_checksum_is_the_crc_32_in_base62_with_the_largest_digit_first() -> None:
    body = b"eg_0f3a9c21_" + b"A" * 43
    value = 0
    for digit in checksum(body):
        value = value * 62 + DIGITS.index(digit)
    assert value == zlib.crc32(body)
    assert len(set(DIGITS)) == 62


@given(keys, places, st.binary(min_size=1, max_size=1))
def test_one_wrong_character_is_always_refused(key: bytes, place: int, wrong: bytes) -> None:
    assume(key[place : place + 1] != wrong)
    assert is_refused(key[:place] + wrong + key[place + 1 :])


@given(keys, places, places)
def test_two_characters_that_changed_places_are_refused(key: bytes, one: int, other: int) -> None:
    assume(key[one] != key[other])
    swapped = bytearray(key)
    swapped[one], swapped[other] = key[other], key[one]
    assert is_refused(bytes(swapped))


@given(keys, places)
def test_a_character_that_is_lost_or_doubled_is_refused(key: bytes, place: int) -> None:
    assert is_refused(key[:place] + key[place + 1 :])
    assert is_refused(key[:place] + key[place : place + 1] + key[place:])


@given(keys, st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=6, max_size=6))
def test_no_checksum_but_the_one_is_right(key: bytes, other: str) -> None:
    assume(key[BORDER:] != other.encode())
    assert is_refused(key[:BORDER] + other.encode())


@given(bodies)
def test_a_key_from_before_there_were_checksums_is_looked_up(body: str) -> None:
    assert not is_refused(body.encode())


@given(bodies, st.text(URL_SAFE, max_size=20))
def test_only_the_two_lengths_have_the_form_of_a_key(body: str, more: str) -> None:
    assert is_shaped_like_key((body + more).encode()) is (not more or (len(more) == CHECKSUM_DIGITS and more.isalnum()))


@given(st.sampled_from(["", " ", ": ", "/", '"']), st.integers(0, 30))
def test_a_key_is_hidden_in_a_log_whole_or_cut(before: str, cut: int) -> None:
    made = make_key_text()
    shown = made.secret[: KEY_CHARACTERS - cut]
    assert clean_text(f"the key{before}{shown} is wrong") == f"the key{before}{HIDDEN} is wrong"
    assert clean_value("reason", shown) == HIDDEN
    assert clean_value("reason", f"key={shown}") == HIDDEN
    assert clean_value("reason", made.prefix) == made.prefix
