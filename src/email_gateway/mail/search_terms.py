"""What a message can be found by: one list for whoever indexes it, when it comes in and ever after."""

import unicodedata
from collections.abc import Sequence

from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.content import Content
from email_gateway.mail.tax_ids import TaxId

# (field, kind, canonical form), as the vault makes a blind index of it.
Term = tuple[str, int, bytes]


def canonical_envelope(content: Content) -> list[bytes]:
    """Return each recipient in the form that is searched, in the order of the envelope."""
    return [canonical_address(email) for email in content.envelope]


def search_terms(content: Content, tax_id: TaxId | None, recipients: Sequence[bytes]) -> list[Term]:
    """Return each address once, the tax id and the external id, in the forms that are searched.

    `recipients` is the canonical envelope. The addresses stand first, as they first appear in it.
    """
    # Two spellings of one address are two deliveries and one row of the index.
    terms: list[Term] = [address_term(address) for address in dict.fromkeys(recipients)]
    if tax_id is not None:
        terms.append(("tax_id", tax_id.kind, tax_id.canonical.encode()))
    if content.external_id is not None:
        terms.append(("external_id", 0, content.external_id.encode()))
    return terms


def address_term(canonical: bytes) -> Term:
    """Return what an address is indexed by; a suppression of it is found by the same."""
    return "address", 0, canonical


def canonical_external_id(text: str) -> str:
    """Return the form of an external id that is stored and searched: NFC, and otherwise as given."""
    return unicodedata.normalize("NFC", text)
