"""Metrics over HTTP, for processes that have no other door."""

import asyncio
import socket
import struct

import httpx
import pytest

from email_gateway.errors import ConfigurationError
from email_gateway.observe import ACCEPTED, serving
from email_gateway.observe.serving import serving_metrics

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


async def ask(port: int) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


async def test_each_process_serves_its_metrics_on_the_next_free_port() -> None:
    ACCEPTED.inc()
    first = free_port()
    async with serving_metrics(("127.0.0.1", first)) as port, serving_metrics(("127.0.0.1", first)) as other:
        assert port == first < other
        assert "email_gateway_accepted_total" in await ask(port)
        assert "email_gateway_accepted_total" in await ask(other)
    with pytest.raises(httpx.ConnectError):
        await ask(port)


async def test_it_is_served_over_ipv6_too() -> None:
    async with serving_metrics(("::1", free_port())) as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://[::1]:{port}/metrics")).status_code == 200


async def test_a_scrape_that_breaks_off_is_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    async with serving_metrics(("127.0.0.1", free_port())) as port, asyncio.timeout(10):
        caller = socket.create_connection(("127.0.0.1", port))
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        caller.close()
        while "scrape_broken" not in said:
            await asyncio.sleep(0.01)
            said += capsys.readouterr().err
        assert "email_gateway_accepted_total" in await ask(port)
    assert "Traceback" not in said


async def test_a_connection_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving._Handler, "timeout", 0.05)
    async with serving_metrics(("127.0.0.1", free_port())) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


async def test_an_address_of_another_machine_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"METRICS_LISTEN: cannot listen on 192\.0\.2\.1: .* give an address"):
        async with serving_metrics(("192.0.2.1", free_port())):
            pass


async def test_no_free_port_says_to_choose_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_PORTS", 1)
    async with serving_metrics(("127.0.0.1", free_port())) as port:
        with pytest.raises(ConfigurationError, match=f"no port is free from {port} on"):
            async with serving_metrics(("127.0.0.1", port)):
                pass
