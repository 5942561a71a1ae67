"""Webhooks as nouns: which events there are, what an endpoint may be, and how what is sent to it is signed.

Signatures are those of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, version 1).
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from email_gateway.mail.addresses import parse_domain
from email_gateway.mail.encoding import InvalidValue

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Resend's word for each kind of event that this gateway makes; several kinds may come to one word.
WORDS = {
    "accepted": "email.sent",
    "delivered": "email.delivered",
    "deferred": "email.delivery_delayed",
    "bounced": "email.bounced",
    "dead": "email.failed",
    "expired": "email.failed",
    "kept": "email.failed",  # as in `last_event`: it was not sent and will not be
}
EVENTS = tuple(dict.fromkeys(WORDS.values()))
TEST_EVENT = "webhook.test"

MAX_ENDPOINT_CHARACTERS = 2048
MARK_OF_SECRETS = "whsec_"
SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64
LOOPBACK_NAME = "localhost"

# Ways to write an IPv4 address as an IPv6 one: NAT64 (RFC 6052, RFC 8215) beside what `ipaddress` knows.
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# What `ipaddress` takes for public and is not: protocol assignments (a cloud's metadata among them), 6to4 relays,
# Azure's own server on every machine, and documentation (RFC 9637).
_NOT_PUBLIC = tuple(ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook's events are sent: an URL that has been checked, in parts. It may hold a token."""

    url: str = field(repr=False)
    host: str
    port: int
    is_tls: bool
    target: str = field(repr=False)


def parse_events(events: Sequence[str]) -> tuple[str, ...]:
    """Return the events that a webhook is for, each once, or raise InvalidValue."""
    if not events:
        raise InvalidValue("name one event at least")
    if set(events) - set(EVENTS):
        raise InvalidValue(f"use events that there are: {', '.join(EVENTS)}")
    return tuple(dict.fromkeys(events))


def kinds_of(events: Iterable[str]) -> list[str]:
    """Return the kinds of our own events that these words stand for."""
    wanted = set(events)
    return [kind for kind, word in WORDS.items() if word in wanted]


def parse_endpoint(text: str, networks: Iterable[Network]) -> Endpoint:
    """Read an endpoint's URL: https, or http on this machine where `networks` has its address.

    What its name stands for is looked at when something is sent there; an address is looked at here.
    Raises InvalidValue.
    """
    if len(text) > MAX_ENDPOINT_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidValue(f"write the URL with at most {MAX_ENDPOINT_CHARACTERS} visible ASCII characters")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise InvalidValue("write the URL as https://host/path") from None
    if url.scheme not in ("https", "http") or not host or port == 0:
        raise InvalidValue("write the URL as https://host/path")
    if any(character in url.netloc for character in "@%\\") or "#" in text:
        raise InvalidValue("leave user, password, escapes and a fragment out of the URL")
    is_local = _check_host(host, tuple(networks))
    if url.scheme == "http" and not is_local:
        raise InvalidValue("use https: events must not cross the network in clear")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Endpoint(text, host, port or (443 if url.scheme == "https" else 80), url.scheme == "https", target)


def _check_host(host: str, networks: Sequence[Network]) -> bool:
    """Raise InvalidValue for a host that may not be a target; return whether it is this machine."""
    address = _find_address(host)
    if address is None and host == LOOPBACK_NAME:
        address = ip_address("127.0.0.1")
    if address is None:
        parse_domain(host)  # no other spelling of an address gets through it
        return False
    if not is_allowed(address, networks):
        raise InvalidValue("use a public address: private, local and reserved ones are no targets")
    return address.is_loopback


def _find_address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_allowed(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether events may be sent to an address: a public one, or one that the operator's networks have."""
    address = _unwrapped(address)
    if any(address in network for network in networks):
        return True
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and any(address in network for network in _TRANSLATED):
        inner = IPv4Address(address.packed[-4:])
    return inner or address


def new_secret() -> str:
    """Return a secret to sign with, as receivers know it: `whsec_` and 32 random bytes in base64."""
    return MARK_OF_SECRETS + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(body: bytes, message_id: str, at: datetime, keys: Sequence[str]) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when; one signature for each secret, the newest first.

    They come under both names, those of Standard Webhooks and those that Resend's SDKs read.
    """
    timestamp = str(int(at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    signatures = [
        b64encode(hmac.digest(b64decode(key.removeprefix(MARK_OF_SECRETS)), signed, hashlib.sha256)).decode()
        for key in keys
    ]
    values = {"id": message_id, "timestamp": timestamp, "signature": " ".join(f"v1,{one}" for one in signatures)}
    return {f"{prefix}-{name}": value for prefix in ("webhook", "svix") for name, value in values.items()}
