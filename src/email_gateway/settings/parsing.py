"""Parsers of settings: text in, value out.

The ValueError says what the value must be and never what it was. What has a noun of its own is
parsed where that lives (`mail.smarthosts`); here stands what any setting may need.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from email_gateway.mail.smarthosts import parse_smtp_url

Network = IPv4Network | IPv6Network

MIN_KEY_CHARACTERS = 32
MAX_KEY_CHARACTERS = 4096
DNS_PORT = 53
TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of these words, in any case."""
    by_folded = {choice.casefold(): choice for choice in choices}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return by_folded[text.casefold()]

    return parse


def parse_switch(text: str) -> bool:
    """Read true or false, also as 1/0, yes/no, on/off."""
    if text.casefold() not in TRUE + FALSE:
        raise ValueError("must be true or false")
    return text.casefold() in TRUE


def parse_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within these limits, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def parse_seconds(lowest: int, highest: int) -> Callable[[str], timedelta]:
    """Return a parser of a number of whole seconds within these limits."""
    number = parse_number(lowest, highest)
    return lambda text: timedelta(seconds=number(text))


def parse_days(lowest: int, highest: int) -> Callable[[str], timedelta]:
    """Return a parser of a number of whole days within these limits."""
    number = parse_number(lowest, highest)
    return lambda text: timedelta(days=number(text))


def parse_listener(text: str) -> tuple[str, int]:
    """Read an address to listen on, such as 127.0.0.1:9464 or [::1]:9464, as host and port."""
    host, _, port = text.rpartition(":")
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]"))), parse_number(1, 65_535)(port)
    except ValueError:
        # What ipaddress says quotes the text.
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:9464") from None


def parse_resolvers(text: str) -> tuple[tuple[str, int], ...]:
    """Read DNS servers such as 10.0.0.2, 127.0.0.1:5353 or [::1]:53, separated by commas or blanks, as host and port."""
    try:
        return tuple(_parse_resolver(part) for part in text.replace(",", " ").split())
    except ValueError:
        # What ipaddress says quotes the text.
        raise ValueError("must be IP addresses of DNS servers, such as 10.0.0.2 or 127.0.0.1:5353") from None


def _parse_resolver(text: str) -> tuple[str, int]:
    try:
        return str(ip_address(text)), DNS_PORT
    except ValueError:
        return parse_listener(text)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read networks such as 10.0.0.0/8 or ::1, separated by commas or blanks."""
    try:
        return tuple(ip_network(part) for part in text.replace(",", " ").split())
    except ValueError:
        # What ipaddress says quotes the text.
        raise ValueError("must be networks such as 10.0.0.0/8 or 192.0.2.7, no host bits set") from None


def parse_pattern(pattern: str, what: str) -> Callable[[str], str]:
    """Return a parser that takes text of this pattern; `what` follows "must be"."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}")
        return text

    return parse


def parse_path(text: str) -> Path:
    """Take the path of a file from the root, since a process may stand anywhere."""
    path = Path(text)
    if not path.is_absolute() or not text.isprintable():
        raise ValueError("must be the path of a file that begins with /")
    return path


def parse_key(text: str) -> str:
    """Take an encryption key or salt: printable, at least 32 characters, otherwise as it stands."""
    if len(text) < MIN_KEY_CHARACTERS:
        raise ValueError(f"must have at least {MIN_KEY_CHARACTERS} characters")
    if len(text) > MAX_KEY_CHARACTERS or not text.isprintable():
        raise ValueError(f"must be at most {MAX_KEY_CHARACTERS} printable characters on one line")
    return text


def parse_admin_key(text: str) -> str:
    """Take an admin key: a key that can also travel in an HTTP header (visible ASCII, RFC 9110 section 5.5)."""
    if not re.fullmatch(r"[!-~]*", text):
        raise ValueError("must be visible ASCII characters without blanks, since it travels in a header")
    return parse_key(text)


def parse_url(*schemes: str, example: str, needs_host: bool = True) -> Callable[[str], str]:
    """Return a parser of URLs of these schemes; `example` shows the form and stands in the error."""

    def parse(text: str) -> str:
        try:
            url = urlsplit(text)
            port_is_wrong = "," not in url.netloc and url.port == 0  # .port raises when it is no number
        except ValueError:
            raise ValueError(f"must look like {example}") from None
        is_bare = needs_host and not url.hostname
        if url.scheme not in schemes or is_bare or port_is_wrong or not text.isprintable() or " " in text:
            raise ValueError(f"must look like {example}")
        return text

    return parse


# A host may come as ?host=, for a socket's directory, and libpq allows several with commas between.
parse_database_url = parse_url(
    "postgresql", "postgres", example="postgresql://user:password@host:5432/database", needs_host=False
)
parse_redis_url = parse_url("redis", "rediss", example="rediss://user:password@host:6379/0")
parse_endpoint_url = parse_url("https", "http", example="https://host")


def check_smtp_url(text: str) -> str:
    """Take the URL of a smarthost as it stands, once it can be read where its noun lives."""
    parse_smtp_url(text)
    return text
