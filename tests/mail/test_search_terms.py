"""What a message can be found by."""

from email_gateway.mail.content import Address, Content
from email_gateway.mail.search_terms import canonical_envelope, canonical_external_id, search_terms
from email_gateway.mail.tax_ids import parse_tax_id


def content(*envelope: str, external_id: str | None = None) -> Content:
    return Content(sender=Address("a@acme.example"), envelope=envelope, subject="Hi", external_id=external_id)


def test_each_address_is_a_term_once_whatever_its_case() -> None:
    mail = content("Ana@example.net", "ana@example.net", "bo@example.net")
    assert search_terms(mail, None, canonical_envelope(mail)) == [
        ("address", 0, b"ana@example.net"),
        ("address", 0, b"bo@example.net"),
    ]


def test_a_tax_id_is_a_term_of_its_kind_and_an_external_id_as_it_is() -> None:
    mail = content("a@b.example", external_id="Customer 1")
    assert search_terms(mail, parse_tax_id("529.982.247-25"), canonical_envelope(mail))[1:] == [
        ("tax_id", 1, b"52998224725"),
        ("external_id", 0, b"Customer 1"),
    ]


def test_two_ways_of_writing_one_letter_are_one_external_id() -> None:
    assert canonical_external_id("Joa\N{COMBINING TILDE}o") == canonical_external_id("João")
