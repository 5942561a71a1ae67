"""One POST: what comes of it whatever the other end does, and where it never goes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from email_gateway.mail.webhooks import parse_endpoint
from email_gateway.webhooks.posting import KEPT_ANSWER_BYTES, MAX_ANSWER_BYTES, Answer, Poster
from tests.delivery.certificates import Authority
from tests.webhooks.receivers import Receiver, hang, receiving, status

pytestmark = pytest.mark.anyio

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
HEADERS = {"webhook-id": "an-id"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster(LOOPBACK, within_seconds=2)
    yield poster
    poster.close()


async def post(poster: Poster, url: str) -> Answer:
    return await poster.post(parse_endpoint(url, LOOPBACK), HEADERS, b'{"type": "x"}')


async def test_a_body_is_posted_with_its_headers_and_the_answer_is_kept(poster: Poster, receiver: Receiver) -> None:
    assert await post(poster, receiver.url) == Answer("delivered", 200, b"ok")
    (received,) = receiver.received
    assert received.head == "POST /in?token=x HTTP/1.1"
    assert received.body == b'{"type": "x"}'
    assert received.headers["host"] == receiver.url.split("/")[2]
    assert received.headers["webhook-id"] == "an-id"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("email-gateway/")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(204), ("delivered", 204)),
        (status(400), ("refused", 400)),
        (status(410), ("refused", 410)),
        (status(500), ("refused", 500)),
        (status(302, "Location: http://127.0.0.1:1/"), ("redirected", 302)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + status(201), ("delivered", 201)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ("delivered", 200)),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", ("delivered", 200)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut off", ("delivered", 200)),
        (b"HTTP/1.1 200 OK\r\nContent-", ("protocol_error", None)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ("protocol_error", None)),
        (b"220 smtp.example.com ESMTP\r\n", ("protocol_error", None)),
        (b"", ("protocol_error", None)),
    ],
)
async def test_what_a_server_answers_becomes_a_word(
    poster: Poster, receiver: Receiver, answer: bytes, expected: tuple[str, int | None]
) -> None:
    receiver.answer = answer
    got = await post(poster, receiver.url)
    assert (got.result, got.status) == expected


async def test_a_redirect_is_not_followed(poster: Poster, receiver: Receiver) -> None:
    async with receiving() as elsewhere:
        for code in (301, 302, 303, 307, 308):
            receiver.answers.append(status(code, f"Location: {elsewhere.url}"))
            assert (await post(poster, receiver.url)).result == "redirected"
        assert elsewhere.connections == 0


async def test_an_answer_without_end_is_read_up_to_a_bound(poster: Poster, receiver: Receiver) -> None:
    written = 0

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()
            written += 4096

    receiver.behave = pour
    answer = await post(poster, receiver.url)
    assert answer == Answer("delivered", 200, b"x" * KEPT_ANSWER_BYTES)
    assert written >= MAX_ANSWER_BYTES


async def test_a_head_without_end_is_a_mistake_of_the_server(poster: Poster, receiver: Receiver) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\n" + b"X-Filler: xxxxxxxxxxxx\r\n" * 4000
    assert (await post(poster, receiver.url)).result == "protocol_error"


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"])
async def test_a_server_that_hangs_is_left(poster: Poster, receiver: Receiver, beginning: bytes) -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await hang(reader, writer)

    receiver.behave = begin
    assert await post(poster, receiver.url) == Answer("timeout")


async def test_nobody_there_is_a_word_of_its_own(poster: Poster) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert await post(poster, f"http://127.0.0.1:{free.getsockname()[1]}/") == Answer("unreachable")


async def test_tls_is_verified_by_name() -> None:
    authority = Authority()
    poster = Poster(LOOPBACK, authority.trust(), within_seconds=5)
    for name, has_lapsed, expected in (
        ("127.0.0.1", False, "delivered"),
        ("hooks.example.com", False, "tls_failed"),
        ("127.0.0.1", True, "tls_failed"),
    ):
        async with receiving(authority.server(name, expired=has_lapsed)) as receiver:
            assert (await post(poster, receiver.url)).result == expected
    poster.close()


async def test_a_server_without_tls_is_not_spoken_to_in_clear(poster: Poster) -> None:
    heard = b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.read(65_536)
        writer.write(status(400))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await post(poster, f"https://127.0.0.1:{port}/in")).result == "tls_failed"
    assert b"webhook-id" not in heard
    server.close()


NAMED = "https://hooks.example.com/"


def stand_for(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names stand for these addresses, one answer after the other; return the names that were asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["fd00::1"],
        ["93.184.215.14", "127.0.0.1"],
    ],
    ids=str,
)
async def test_a_name_that_stands_for_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, addresses: list[str]
) -> None:
    stand_for(monkeypatch, addresses)
    poster = Poster((), within_seconds=2)
    port = receiver.url.split(":")[2].split("/")[0]
    url = f"https://hooks.example.com:{port}/"
    assert await poster.post(parse_endpoint(url, ()), HEADERS, b"{}") == Answer("not_allowed")
    assert receiver.connections == 0
    poster.close()


async def test_a_name_is_resolved_once_and_the_address_that_was_looked_at_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A server for names that answers another address each time (DNS rebinding): the second never counts.
    authority = Authority()
    poster = Poster((ip_network("127.0.0.2/32"),), authority.trust(), within_seconds=5)
    async with receiving(authority.server("hooks.example.com"), host="127.0.0.2") as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        asked = stand_for(monkeypatch, ["127.0.0.2"], ["127.0.0.3"])
        url = f"https://hooks.example.com:{port}/"
        assert (await poster.post(parse_endpoint(url, ()), HEADERS, b"{}")).result == "delivered"
        assert asked == ["hooks.example.com"]
        assert (await poster.post(parse_endpoint(url, ()), HEADERS, b"{}")).result == "not_allowed"
        assert receiver.connections == 1
    poster.close()


async def test_a_name_that_nobody_knows_is_a_word_of_its_own(monkeypatch: pytest.MonkeyPatch, poster: Poster) -> None:
    stand_for(monkeypatch, [])
    assert await post(poster, NAMED) == Answer("unresolved")


def test_no_answer_shows_what_the_server_said() -> None:
    assert "SECRET" not in repr(Answer("refused", 500, b"SECRET"))
