"""The resolver against a real server on loopback."""

import pytest

from email_gateway.delivery.dns import Resolver
from email_gateway.errors import DnsUnavailable
from tests.dns_server import DnsServer

pytestmark = pytest.mark.anyio

LONG = "v=DKIM1; k=rsa; p=" + "A" * 392


async def test_texts_are_read_whole_in_whatever_pieces_they_stand() -> None:
    async with DnsServer({"acme.example": ["v=spf1 -all", LONG]}) as server:
        assert sorted(await Resolver([("127.0.0.1", server.port)]).list_texts("acme.example")) == [LONG, "v=spf1 -all"]


async def test_an_answer_that_fits_no_datagram_is_fetched_over_tcp() -> None:
    async with DnsServer({"acme.example": [LONG + str(number) for number in range(9)]}) as server:
        assert len(await Resolver([("127.0.0.1", server.port)]).list_texts("acme.example")) == 9
        assert server.asked == ["acme.example", "acme.example"]


async def test_a_name_that_does_not_exist_has_no_texts() -> None:
    async with DnsServer() as server:
        assert await Resolver([("127.0.0.1", server.port)]).list_texts("acme.example") == []


async def test_an_alias_is_followed() -> None:
    async with DnsServer({"keys.example.net": ["here"]}) as server:
        server.aliases["acme.example"] = "keys.example.net"
        assert await Resolver([("127.0.0.1", server.port)]).list_texts("acme.example") == ["here"]
        server.aliases["acme.example"] = "nothing.example.net"
        assert await Resolver([("127.0.0.1", server.port)]).list_texts("acme.example") == []


@pytest.mark.parametrize("trouble", ["failing", "silent", "gone"])
async def test_no_answer_is_not_an_empty_one(trouble: str) -> None:
    async with DnsServer({"acme.example": ["here"]}) as server:
        port = server.port
        if trouble != "gone":
            getattr(server, trouble).add("acme.example")
            with pytest.raises(DnsUnavailable):
                await Resolver([("127.0.0.1", port)], within=0.3).list_texts("acme.example")
    if trouble == "gone":
        with pytest.raises(DnsUnavailable):
            await Resolver([("127.0.0.1", port)], within=0.3).list_texts("acme.example")


async def test_the_second_server_is_asked_when_the_first_fails() -> None:
    async with DnsServer() as first, DnsServer({"acme.example": ["here"]}) as second:
        first.failing.add("acme.example")
        resolver = Resolver([("127.0.0.1", first.port), ("127.0.0.1", second.port)])
        assert await resolver.list_texts("acme.example") == ["here"]


async def test_a_machine_without_a_resolver_gets_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    def nothing(*_: object, **__: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", nothing)
    with pytest.raises(DnsUnavailable):
        await Resolver(within=0.3).list_texts("acme.example")
