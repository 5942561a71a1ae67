"""A real DNS server on loopback, over UDP and TCP, that serves the TXT records it is given."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from email_gateway.mail.domains import Algorithm, key_record_name, key_record_value
from email_gateway.store.domains import Domain

STRING_OCTETS = 255  # RFC 1035 section 3.3: what is longer stands in several strings


class DnsServer:
    """Answers with `texts`, by name without a dot at the end, and follows `aliases`.

    Of names in `failing` it says SERVFAIL, and to those in `silent` nothing. `asked` counts questions.
    """

    def __init__(self, texts: dict[str, list[str]] | None = None) -> None:
        self.texts = texts or {}
        self.aliases: dict[str, str] = {}
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    @property
    def address(self) -> str:
        """What DNS_RESOLVERS says to have it asked."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        while True:
            tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", 0)
            self.port = tcp.sockets[0].getsockname()[1]
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind(("127.0.0.1", self.port))
                break
            except OSError:  # somebody has the port for datagrams
                udp.close()
                tcp.close()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._stack.callback(transport.close)
        self._stack.callback(tcp.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def answer(self, wire: bytes, most: int | None = None) -> bytes | None:
        """Return the answer to a question, cut short where it may have `most` octets; None where there is none."""
        query = dns.message.from_wire(wire)
        name = query.question[0].name
        plain = name.to_text(omit_final_dot=True).lower()
        self.asked.append(plain)
        if plain in self.silent:
            return None
        response = dns.message.make_response(query)
        if plain in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif plain in self.aliases:
            target = self.aliases[plain]
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", f"{target}."))
            response.answer += self._texts_of(dns.name.from_text(target), target)
        elif not (found := self._texts_of(name, plain)):
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer += found
        try:
            return response.to_wire(max_size=65_535 if most is None else max(most, query.payload))
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _texts_of(self, name: dns.name.Name, plain: str) -> list[dns.rrset.RRset]:
        texts = self.texts.get(plain)
        if not texts:
            return []
        quoted = [
            " ".join(f'"{text[at : at + STRING_OCTETS]}"' for at in range(0, len(text), STRING_OCTETS))
            for text in texts
        ]  # fmt: skip
        return [dns.rrset.from_text(name, 60, "IN", "TXT", *quoted)]

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            if answer := self.answer(await reader.readexactly(size)):
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if answer := self._server.answer(data, most=512):  # RFC 1035 section 2.3.4
            self._transport.sendto(answer, address)


@contextlib.contextmanager
def serving_zone() -> Iterator[DnsServer]:
    """Run a server in a thread of its own; `texts` may be changed from any other."""
    loop, server = asyncio.new_event_loop(), DnsServer()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def publish(server: DnsServer, domain: Domain, *algorithms: Algorithm) -> None:
    """Put the records of a domain's keys into the DNS, of these algorithms or of all."""
    for key in domain.keys:
        if key.algorithm in (algorithms or Algorithm):
            value = key_record_value(key.algorithm, key.public_key)
            server.texts[key_record_name(key.selector, domain.name)] = [value]
