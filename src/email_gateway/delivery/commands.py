"""The commands of a transaction and the keywords of a server, as octets: pure, and safe to send."""

import re

from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.encoding import UNSAFE_IN_NAMES

MAX_ADDRESS_OCTETS = 254  # RFC 5321 section 4.5.3.1.3, without the brackets
MAX_KEYWORDS = 64
MAX_SIZE_DIGITS = 20  # RFC 1870 section 3

# Visible ASCII without the brackets that end a path: anything else could begin a parameter or
# another command.
_ADDRESS = re.compile(r"[!-;=?-~]+")
_UTF8_ADDRESS = re.compile(r"[!-;=?-~\u00a1-\U0010ffff]+")  # RFC 6531 section 3.3
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")


class InvalidArgument(ValueError):
    """An address that cannot stand in a command; the message does not repeat it."""


def mail_command(sender: str, *, size: int | None, needs_utf8: bool = False) -> bytes:
    """Return MAIL, with the size where the server wants it; raises InvalidArgument.

    `needs_utf8` is for a mail with any address beyond ASCII in envelope or head, and a server that
    offers SMTPUTF8. Without BODY it says that the bodies are ASCII (RFC 6531 section 3.6).
    """
    command = f"MAIL FROM:<{check_address(sender, takes_utf8=needs_utf8)}>"
    if size is not None:
        command += f" SIZE={size}"  # RFC 1870 section 6
    if needs_utf8:
        command += " SMTPUTF8"
    return command.encode()


def rcpt_command(recipient: str, *, takes_utf8: bool = False) -> bytes:
    """Return RCPT; raises InvalidArgument for an address no command can carry."""
    return f"RCPT TO:<{check_address(recipient, takes_utf8=takes_utf8)}>".encode()


def check_address(address: str, *, takes_utf8: bool = False) -> str:
    """Return the address if it can stand between `<` and `>`; raises InvalidArgument."""
    if address.isascii():
        is_safe = _ADDRESS.fullmatch(address) and len(address) <= MAX_ADDRESS_OCTETS
    else:
        is_safe = takes_utf8 and _UTF8_ADDRESS.fullmatch(address) and not UNSAFE_IN_NAMES.search(address)
        is_safe = is_safe and len(address.encode()) <= MAX_ADDRESS_OCTETS
    if not is_safe:
        raise InvalidArgument("the address holds what no SMTP command can carry")
    return address


def parse_capabilities(reply: Reply) -> dict[str, str]:
    """Return each keyword of an EHLO reply with its parameters, in capitals (RFC 5321 section 4.1.1.1)."""
    found: dict[str, str] = {}
    for line in reply.lines[1 : MAX_KEYWORDS + 1]:
        keyword, _, parameters = line.decode("ascii", errors="replace").upper().partition(" ")
        if keyword.startswith("AUTH="):  # an old spelling that some servers still send beside the new
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        if _KEYWORD.fullmatch(keyword):
            found[keyword] = f"{found[keyword]} {parameters}" if keyword in found else parameters.strip()
    return found


def find_size_limit(capabilities: dict[str, str]) -> int | None:
    """Return the largest message that a server takes, if it says so; 0 says nothing (RFC 1870 section 4)."""
    declared = capabilities.get("SIZE", "")
    is_number = declared.isascii() and declared.isdigit() and len(declared) <= MAX_SIZE_DIGITS
    return (int(declared) or None) if is_number else None
