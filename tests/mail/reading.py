"""Python's `email` as the independent reader of what the gateway writes."""

from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses


def read(octets: bytes) -> EmailMessage:
    message = message_from_bytes(octets, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def read_field(field: str) -> EmailMessage:
    return read(field.encode() + b"\r\n")


def names_in(field: str) -> list[str]:
    """Display names as the older half of `email` reads them: the newer one (3.11) keeps a space between
    adjacent encoded words, against RFC 2047 section 6.2, and collapses spaces inside them."""
    value = field.replace("\r\n", "").partition(":")[2]
    return [str(make_header(decode_header(name))) for name, _ in getaddresses([value])]


def lines_of(octets: bytes) -> list[bytes]:
    """The lines of a message, having checked that CRLF alone ends them and that none is too long."""
    assert octets.endswith(b"\r\n")
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    assert b"\0" not in octets
    assert octets.isascii()
    lines = octets.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    return lines
