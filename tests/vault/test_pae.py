"""The pre-authentication encoding: PASETO's own examples, and that it can be read one way only."""

from hypothesis import given
from hypothesis import strategies as st

from email_gateway.vault.pae import pae


def test_pae_gives_the_examples_of_the_paseto_specification() -> None:
    assert pae() == bytes(8)
    assert pae(b"") == b"\x01" + bytes(7) + bytes(8)
    assert pae(b"test") == b"\x01" + bytes(7) + b"\x04" + bytes(7) + b"test"


def test_pae_tells_apart_what_concatenation_confuses() -> None:
    encoded = {
        pae(b"ab", b"c"),
        pae(b"a", b"bc"),
        pae(b"abc"),
        pae(b"abc", b""),
        pae(b"", b"abc"),
        pae(b"a", b"b", b"c"),
    }
    assert len(encoded) == 6


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_pae_can_be_read_back(pieces: list[bytes]) -> None:
    encoded = pae(*pieces)
    read, at = [], 8
    for _ in range(int.from_bytes(encoded[:8], "little")):
        length = int.from_bytes(encoded[at : at + 8], "little")
        read.append(encoded[at + 8 : at + 8 + length])
        at += 8 + length
    assert read == pieces
    assert at == len(encoded)
