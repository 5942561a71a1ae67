"""Root keys: HKDF by RFC 5869's answers, what counts as the same secret, and which secrets are refused."""

import hashlib
import hmac

import cryptography_vectors
import pytest

from email_gateway.errors import ConfigurationError
from email_gateway.vault.roots import derive_root, expand, extract

KEY = "correct horse battery staple key 0001"
SALT = "correct horse battery staple salt 001"


def read_rfc_5869() -> list[dict[str, str]]:
    """The SHA-256 cases of RFC 5869 appendix A, as shipped in cryptography_vectors."""
    cases: list[dict[str, str]] = []
    with cryptography_vectors.open_vector_file("KDF/rfc-5869-HKDF-SHA256.txt", "r") as file:
        for line in file:
            name, is_pair, value = line.partition("=")
            if line.startswith("COUNT"):
                cases.append({})
            if is_pair and cases:
                cases[-1][name.strip().upper()] = value.strip()
    return cases


def test_hkdf_gives_the_answers_of_rfc_5869() -> None:
    cases = read_rfc_5869()
    assert len(cases) >= 3
    for case in cases:
        prk = extract(salt=bytes.fromhex(case.get("SALT", "")), key_material=bytes.fromhex(case["IKM"]))
        assert prk.hex() == case["PRK"]
        assert expand(prk, bytes.fromhex(case.get("INFO", "")), int(case["L"])).hex() == case["OKM"]


def test_root_id_is_derived_as_the_design_says() -> None:
    prk = hmac.digest(SALT.encode(), KEY.encode(), hashlib.sha256)
    by_hand = hmac.digest(prk, b"emailgw/root/id/v1\x01", hashlib.sha256)[:16]
    assert derive_root(KEY, SALT).root_id == by_hand


@pytest.mark.parametrize("white_space", ["\n", "\r\n", " ", "\t", "\v\f"])
def test_ascii_white_space_at_the_ends_does_not_count(white_space: str) -> None:
    padded = derive_root(white_space + KEY + white_space, SALT + white_space)
    assert padded.root_id == derive_root(KEY, SALT).root_id


def test_other_white_space_and_inner_white_space_count() -> None:
    ids = {derive_root(key, SALT).root_id for key in (KEY, KEY + "\u00a0", KEY + "\u2003", KEY.replace(" ", "  ", 1))}
    assert len(ids) == 4


def test_each_secret_and_their_order_make_another_root() -> None:
    ids = {derive_root(*pair).root_id for pair in ((KEY, SALT), (KEY + "x", SALT), (KEY, SALT + "x"), (SALT, KEY))}
    assert len(ids) == 4


def test_secrets_that_look_like_base64_are_not_decoded() -> None:
    assert derive_root("QUFB" * 8, SALT).root_id != derive_root("AAA" * 8 + "A" * 8, SALT).root_id
    by_hand = hmac.digest(SALT.encode(), b"QUFB" * 8, hashlib.sha256)
    assert derive_root("QUFB" * 8, SALT).root_id == hmac.digest(by_hand, b"emailgw/root/id/v1\x01", "sha256")[:16]


@pytest.mark.parametrize(
    ("key", "salt", "complaints"),
    [
        ("k" * 31, SALT, ["key must have at least 32 characters"]),
        ("k" * 31 + "\n", SALT, ["key must have at least 32 characters"]),
        (KEY, "", ["salt must have at least 32 characters"]),
        ("", "short", ["key must have", "salt must have"]),
        (KEY, KEY, ["must differ"]),
        (KEY, f"  {KEY}\n", ["must differ"]),
        (KEY + "\ud800", SALT, ["key must be valid Unicode"]),
    ],
)
def test_unfit_secrets_are_refused_with_every_reason_and_no_value(key: str, salt: str, complaints: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        derive_root(key, salt)
    for complaint in complaints:
        assert complaint in str(refused.value)
    assert not any(value.strip() and value.strip() in str(refused.value) for value in (key, salt))
    assert refused.value.__context__ is None


def test_thirty_two_characters_are_enough() -> None:
    assert len(derive_root("k" * 32, "é" * 32).root_id) == 16
