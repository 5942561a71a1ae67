"""Where a request comes from: the peer, or what a proxy that we trust says of it."""

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from email_gateway.api.calls import Scope

UNKNOWN = "unknown"
_HOST = re.compile(rb"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")  # RFC 9110 section 7.2
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the client's address; `X-Forwarded-For` counts only behind a trusted proxy.

    The list is read from its end, and only as far as trusted proxies wrote it: what stands before
    was sent by the client itself.
    """
    peer = scope.get("client")
    address = _parse(peer[0]) if peer else None
    if address is None:
        return UNKNOWN
    if not trusted:
        return str(address)
    for hop in reversed(_forwarded_for(scope)):
        if not is_within(address, trusted):
            break
        forwarded = _parse(hop)
        if forwarded is None:
            break
        address = forwarded
    return str(address)


def base_url(scope: Scope, headers: dict[bytes, bytes], trusted: Sequence[Network]) -> str:
    """Return the address under which the client reached us, without a path: `https://mail.acme.example`.

    `X-Forwarded-Proto` and `X-Forwarded-Host` count only from a trusted proxy. Empty for a Host that is none.
    """
    peer = scope.get("client")
    address = _parse(peer[0]) if peer else None
    scheme, host = scope["scheme"].encode(), headers.get(b"host", b"")
    if address is not None and is_within(address, trusted):
        scheme, host = headers.get(b"x-forwarded-proto", scheme), headers.get(b"x-forwarded-host", host)
    if scheme not in (b"http", b"https") or not _HOST.fullmatch(host):
        return ""
    return f"{scheme.decode()}://{host.decode()}"


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies in any of these networks."""
    return any(address.version == network.version and address in network for network in networks)


def is_allowed(client: str, networks: Sequence[Network]) -> bool:
    """Tell whether a client may use a key that is bound to these networks; none means any."""
    if not networks:
        return True
    address = _parse(client)
    return address is not None and is_within(address, networks)


def is_local(scope: Scope) -> bool:
    """Tell whether a request was made on this machine, and not forwarded by a proxy on it."""
    peer = scope.get("client")
    address = _parse(peer[0]) if peer else None
    return address is not None and address.is_loopback and not _forwarded_for(scope)


def _forwarded_for(scope: Scope) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return [hop.strip() for value in values for hop in value.split(",")]


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
