"""What is sealed here opens with any program of the age format, and nothing opens with the wrong key."""

import subprocess
from pathlib import Path

import pyrage
import pytest
from pyrage import passphrase, x25519

from email_gateway.errors import OperationRefused
from email_gateway.operator import age_file
from tests.plugins.system_packages import get_program

PLAINTEXT = b"MARK-plaintext" * 10_000  # more than one chunk of 64 KiB
WORDS = "MARK correct horse battery staple"


@pytest.fixture
def identity() -> x25519.Identity:
    return x25519.Identity.generate()


def test_a_public_key_seals_and_its_secret_key_opens(identity: x25519.Identity) -> None:
    recipient = age_file.parse_recipient(str(identity.to_public()))
    sealed = age_file.seal_for([recipient], PLAINTEXT)
    assert not age_file.needs_passphrase(sealed)
    assert age_file.open_by(age_file.parse_identities(f"# created\n\n{identity}\n"), sealed) == PLAINTEXT
    with pytest.raises(OperationRefused, match="none of the secret keys"):
        age_file.open_by([x25519.Identity.generate()], sealed)


def test_a_passphrase_seals_and_opens() -> None:
    sealed = age_file.seal_with(WORDS, PLAINTEXT)
    assert age_file.needs_passphrase(sealed)
    assert age_file.open_with(WORDS, sealed) == PLAINTEXT == passphrase.decrypt(sealed, WORDS)
    with pytest.raises(OperationRefused, match="this passphrase does not open"):
        age_file.open_with(f"{WORDS}s", sealed)
    with pytest.raises(OperationRefused, match="cut short or changed"):
        age_file.open_with(WORDS, sealed[:-1])


def test_a_file_that_would_take_an_hour_to_open_is_refused() -> None:
    sealed = age_file.seal_with(WORDS, b"")
    head, stanza, rest = sealed.split(b"\n", 2)
    slow = b"\n".join((head, stanza.rpartition(b" ")[0] + b" 30", rest))
    with pytest.raises(OperationRefused, match="a much faster machine"):
        age_file.open_with(WORDS, slow)


@pytest.mark.needs("age")
def test_the_reference_program_opens_it_and_seals_what_opens_here(identity: x25519.Identity, tmp_path: Path) -> None:
    age, key, file = get_program("age"), tmp_path / "key.txt", tmp_path / "secrets.age"
    key.write_text(str(identity))
    file.write_bytes(age_file.seal_for([identity.to_public()], PLAINTEXT))
    assert run_age(age, "--decrypt", "--identity", str(key), str(file)) == PLAINTEXT
    file.write_bytes(PLAINTEXT)
    sealed = run_age(age, "--recipient", str(identity.to_public()), str(file))
    assert age_file.open_by([identity], sealed) == PLAINTEXT


def run_age(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_what_is_no_age_file_is_refused(identity: x25519.Identity) -> None:
    armored = pyrage.encrypt(PLAINTEXT, [identity.to_public()], armored=True)
    for raw in (b"", b"-----BEGIN PGP MESSAGE-----", armored):
        with pytest.raises(OperationRefused, match="no age file in binary form"):
            age_file.needs_passphrase(raw)


def test_errors_quote_nothing(identity: x25519.Identity) -> None:
    for text in (str(identity), "MARK", ""):
        with pytest.raises(ValueError, match=r"^is ") as wrong:
            age_file.parse_recipient(text)
        assert not text or text not in str(wrong.value)
    for text in ("MARK", "", f"{identity}x"):
        with pytest.raises(ValueError, match="secret key") as wrong:
            age_file.parse_identities(text)
        assert not text or text not in str(wrong.value)
    with pytest.raises(ValueError, match="at least 16 characters"):
        age_file.check_passphrase("MARK")
