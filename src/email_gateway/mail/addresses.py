"""Mail addresses as callers write them, read by one linear parser into one canonical form.

Strict about where mail goes: two parsers that disagree about an address send mail to the wrong place,
so whatever RFC 5322 allows beyond `Name <user@example.com>` is refused by name, not interpreted. Kind
about what only people read: any text before the one address in angle brackets at the end is the name.
"""

import re
import unicodedata
from contextlib import suppress

import idna

from email_gateway.mail.content import Address
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue, quoted

MAX_LOCAL_OCTETS = 64  # RFC 5321 section 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
MAX_ADDRESS_OCTETS = 254  # RFC 5321 section 4.5.3.1.3: a path of 256 with its angle brackets
MAX_NAME_CHARACTERS = 256
# A name with every character escaped, its quotes, the address and a little white space. Checked
# before anything else, so that no input costs more than reading these.
MAX_INPUT_CHARACTERS = 2 * MAX_NAME_CHARACTERS + MAX_ADDRESS_OCTETS + 16

# atext of RFC 5322 section 3.2.3 without % and !, which old relays read as routes.
_ATOM = r"[A-Za-z0-9#$&'*+\-/=?^_`{|}~\x80-\U0010ffff]+"  # with the UTF-8 of RFC 6531 section 3.3
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
# Labels of RFC 1123 section 2.1. The last begins with a letter: anything else is an IP address
# in one of its spellings (127.0.0.1, 0x7f.1).
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ADDRESS_IN_NAME = re.compile(r"[<>]|[^\s@]@[^\s@]")

_NAMES_NEED_QUOTES = frozenset('()<>[]:;@\\,"')

_ADVICE = (
    ('"', "write the part before the @ without quotes"),
    (",;:", "give one address per entry, without groups or routes"),
    ("%!", "remove % and ! from the part before the @: routed addresses are refused"),
    ("()", "remove the comment in parentheses from the address"),
    ("@", "write exactly one @ in the address"),
)


class InvalidAddress(InvalidValue):
    """An address that is refused; the message says what to change and never repeats the address."""


def parse_address(text: str) -> Address:
    """Read `user@example.com`, `Name <user@example.com>` or `"Quoted name" <user@example.com>`.

    What stands before the angle brackets at the end is the name as it stands, with its commas,
    parentheses and quotes; quotes around all of it are taken off. A name that holds an address must
    be in quotes: it may be a list, whose first mail would silently go nowhere.
    The domain comes back in lower-case A-labels (UTS 46), the local part as written, in NFC where
    it is not ASCII (RFC 6532 section 3.1). Raises `InvalidAddress`.
    """
    if len(text) > MAX_INPUT_CHARACTERS:
        raise InvalidAddress("shorten the address: it may have 254 characters, and its name 256")
    if UNSAFE_IN_NAMES.search(text):
        raise InvalidAddress("remove control characters, line breaks and text-direction marks from the address")
    text = text.strip(" ")
    if not text.endswith(">"):
        return Address(_parse_mailbox(text))
    name, mailbox = _split_name(text)
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidAddress("shorten the name beside the address to 256 characters")
    return Address(_parse_mailbox(mailbox), name or None)


def show_address(address: Address) -> str:
    """Return an address as a caller would write it, so that it can be sent again."""
    if not address.name:
        return address.email
    name = quoted(address.name) if _NAMES_NEED_QUOTES.intersection(address.name) else address.name
    return f"{name} <{address.email}>"


def canonical_address(email: str) -> bytes:
    """Return the form that the blind index knows: lower-cased, the domain in A-labels.

    Takes an address without a name; raises `InvalidAddress` like `parse_address`.
    """
    if len(email) > MAX_INPUT_CHARACTERS:
        raise InvalidAddress("shorten the address: it may have 254 characters")
    # Lower case can undo NFC: \u0130 becomes an i with a dot of its own.
    return unicodedata.normalize("NFC", _parse_mailbox(email).lower()).encode()


def _split_name(text: str) -> tuple[str, str]:
    name, _, mailbox = text[:-1].rpartition("<")
    name = name.strip(" ")
    if quoted := _QUOTED_NAME.fullmatch(name):
        return _ESCAPE.sub(r"\1", quoted[1]).strip(" "), mailbox
    if _ADDRESS_IN_NAME.search(name):
        raise InvalidAddress("put a name that contains an address in double quotes, and give one address per entry")
    return name, mailbox


def _parse_mailbox(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise InvalidAddress("write the address as user@example.com or Name <user@example.com>")
    if not local.isascii():
        local = _parse_international(local)
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise InvalidAddress("shorten the part before the @ to 64 characters, fewer where they are not ASCII")
    if not _DOT_ATOM.fullmatch(local):
        raise InvalidAddress(_local_advice(local))
    domain = parse_domain(domain)
    if len(local.encode()) + 1 + len(domain) > MAX_ADDRESS_OCTETS:
        raise InvalidAddress("shorten the address to 254 characters")
    return f"{local}@{domain}"


def _parse_international(local: str) -> str:
    """Return a local part beyond ASCII in NFC, without what is invisible or another spelling of something else.

    Only its own server may say what it means (RFC 6531 section 3.2). One that folds compatibility
    forms would read a full-width @ as an @, so what NFKC changes is refused, as RFC 8264 section 9.17 does.
    """
    local = unicodedata.normalize("NFC", local)
    if any(unicodedata.category(character)[0] in "CZ" for character in local if not character.isascii()):
        raise InvalidAddress("remove white space and invisible characters from the part before the @")
    if unicodedata.normalize("NFKC", local) != local:
        raise InvalidAddress("write the part before the @ without full-width, ligature or other compatibility forms")
    return local


def _local_advice(local: str) -> str:
    for characters, advice in _ADVICE:
        if any(character in local for character in characters):
            return advice
    if _DOT_ATOM.fullmatch(local.replace(".", "") or "x"):
        return "remove the leading, trailing or doubled dot from the part before the @"
    return "remove white space and special characters from the part before the @"


def parse_domain(domain: str) -> str:
    """Return a mail domain as it is kept: in lower case and A-labels; raises InvalidAddress for what is none."""
    if len(domain) > MAX_DOMAIN_OCTETS:
        raise InvalidAddress("shorten the domain to 255 characters")
    if domain.startswith("["):
        raise InvalidAddress("write a domain name after the @: IP addresses are refused")
    if domain.endswith("."):
        raise InvalidAddress("remove the dot at the end of the domain")
    domain = domain.lower() if domain.isascii() else _to_a_labels(domain)
    if "xn--" in domain:
        # An A-label must be what its own Unicode form encodes to, or it names nothing (RFC 5891 section 5.4).
        domain = _to_a_labels(domain)
    if not _DOMAIN.fullmatch(domain):
        raise InvalidAddress(
            "write a full domain name after the @, such as example.com: "
            "letters, digits and hyphens, at most 63 in each part"
        )
    return domain


def _to_a_labels(domain: str) -> str:
    # Raised outside the handler: the library's error repeats the domain, and must not travel as its context.
    with suppress(UnicodeError):
        # What UTS 46 drops (soft hyphen, zero-width space) is invisible: a second spelling of
        # another domain, and never what the writer meant.
        if any(not idna.uts46_remap(character) for character in domain if not character.isascii()):
            raise InvalidAddress("remove invisible characters from the domain")
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    raise InvalidAddress("correct the domain: it is not a valid internationalised name (IDNA 2008)")
