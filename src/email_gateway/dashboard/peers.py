"""Who is at the other end, as the request's scope says: whoever mounts the dashboard has resolved trusted proxies."""

import ipaddress

from starlette.requests import Request

FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")


def client_address(request: Request) -> str:
    """Return the client's address."""
    return request.client.host if request.client else ""


def is_https(request: Request) -> bool:
    """Tell whether the browser speaks https."""
    return request.url.scheme == "https"


def is_loopback(request: Request) -> bool:
    """Tell whether the browser runs on this machine: through a proxy on it, anyone's would seem to."""
    if any(name in request.headers for name in FORWARDING_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(client_address(request))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
