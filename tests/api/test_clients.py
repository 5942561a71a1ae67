from ipaddress import ip_network
from typing import Any

import pytest

from email_gateway.api.clients import base_url, client_address, is_allowed, is_local


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": (peer, 1) if peer else None, "headers": headers}


PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("asked", "trusted", "address"),
    [
        (scope("203.0.113.9", "1.1.1.1"), (), "203.0.113.9"),
        (scope("203.0.113.9", "1.1.1.1"), PROXIES, "203.0.113.9"),
        (scope("10.0.0.1", "198.51.100.7"), PROXIES, "198.51.100.7"),
        (scope("10.0.0.1", "1.1.1.1, 198.51.100.7"), PROXIES, "198.51.100.7"),
        (scope("10.0.0.1", "1.1.1.1", "198.51.100.7, 10.0.0.2"), PROXIES, "198.51.100.7"),
        (scope("10.0.0.1", "nonsense"), PROXIES, "10.0.0.1"),
        (scope("10.0.0.1"), PROXIES, "10.0.0.1"),
        (scope("::ffff:10.0.0.1", "2001:db8::1"), PROXIES, "2001:db8::1"),
        (scope(None), PROXIES, "unknown"),
        (scope("", "1.1.1.1"), PROXIES, "unknown"),
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(asked: dict[str, Any], trusted: Any, address: str) -> None:
    assert client_address(asked, trusted) == address


FORWARDED = {b"x-forwarded-proto": b"https", b"x-forwarded-host": b"mail.acme.example"}


@pytest.mark.parametrize(
    ("peer", "headers", "url"),
    [
        ("203.0.113.9", {b"host": b"gateway:8025"}, "http://gateway:8025"),
        ("203.0.113.9", {b"host": b"[2001:db8::1]:80"}, "http://[2001:db8::1]:80"),
        ("203.0.113.9", {b"host": b"gateway", **FORWARDED}, "http://gateway"),
        ("10.0.0.1", {b"host": b"gateway", **FORWARDED}, "https://mail.acme.example"),
        ("10.0.0.1", {b"host": b"gateway", b"x-forwarded-proto": b"https"}, "https://gateway"),
        ("10.0.0.1", {b"host": b"gateway", b"x-forwarded-proto": b"javascript"}, ""),
        ("203.0.113.9", {b"host": b"a/b"}, ""),
        ("203.0.113.9", {b"host": b'a"b'}, ""),
        ("203.0.113.9", {}, ""),
    ],
)
def test_a_link_leads_where_the_client_came_in(peer: str, headers: dict[bytes, bytes], url: str) -> None:
    assert base_url({**scope(peer), "scheme": "http"}, headers, PROXIES) == url


@pytest.mark.parametrize(
    ("client", "networks", "allowed"),
    [
        ("203.0.113.9", [], True),
        ("203.0.113.9", ["203.0.113.0/24"], True),
        ("203.0.113.9", ["198.51.100.0/24", "2001:db8::/32"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("unknown", ["0.0.0.0/0", "::/0"], False),
        ("unknown", [], True),
    ],
)
def test_a_key_is_bound_to_its_networks(client: str, networks: list[str], allowed: bool) -> None:
    assert is_allowed(client, [ip_network(network) for network in networks]) is allowed


@pytest.mark.parametrize(
    ("asked", "local"),
    [
        (scope("127.0.0.1"), True),
        (scope("::1"), True),
        (scope("::ffff:127.0.0.1"), True),
        (scope("127.0.0.1", "198.51.100.7"), False),
        (scope("10.0.0.1"), False),
        (scope(None), False),
    ],
)
def test_what_a_proxy_forwards_is_not_local(asked: dict[str, Any], local: bool) -> None:
    assert is_local(asked) is local
