import pytest

from email_gateway.dashboard.masking import mask_address, mask_text, show_address
from email_gateway.mail.content import Address


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("maria@example.com", "m•••@example.com"),
        ("mariana.de.souza.e.silva@example.com", "m•••@example.com"),
        ("m@example.com", "•••@example.com"),
        ('"a@b"@example.com', '"•••@example.com'),
        ("çelik@xn--exmple-cua.com", "ç•••@xn--exmple-cua.com"),
    ],
)
def test_an_address_keeps_its_first_letter_and_its_domain(address: str, masked: str) -> None:
    assert mask_address(address) == masked


def test_a_text_keeps_nothing_not_even_its_length() -> None:
    assert mask_text("Your invoice") == mask_text("x") == "•••"
    assert mask_text("") == mask_text(None) == ""


def test_in_clear_a_mailbox_has_its_name() -> None:
    assert show_address(Address("maria@example.com", "Maria")) == "Maria <maria@example.com>"
    assert show_address(Address("maria@example.com")) == "maria@example.com"
