"""Clients that are slow, greedy or confused, through raw sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from email_gateway.api.protocol import BoundedProtocol
from email_gateway.api.server import CUT_OFF_AT_ONCE
from tests.api.house import Served, serving

pytestmark = pytest.mark.anyio

GET = b"GET /v1/health/livez HTTP/1.1\r\nhost: x\r\n"


class ImpatientProtocol(BoundedProtocol):
    """The same deadlines, and no test that lasts as long as they do."""

    header_seconds = 0.3
    body_seconds = 0.3
    write_seconds = 0.3
    body_grace_seconds = 0.5
    linger_idle_seconds = 0.3
    linger_seconds = 1.0
    linger_bytes = 64 * 1024 * 1024


@pytest.fixture(scope="module")
async def address(shared: Served) -> AsyncIterator[tuple[str, int]]:
    async with serving(shared.context, ImpatientProtocol) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


async def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Send pieces and return everything that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_headers_that_never_end_are_cut_off(address: tuple[str, int]) -> None:
    assert (await talk(address, GET + b"x-slow: ")).startswith(b"HTTP/1.1 408 ")


async def test_more_than_are_cut_off_at_once_are_cut_off_one_after_the_other(address: tuple[str, int]) -> None:
    answers = await asyncio.gather(*(talk(address, GET + b"x-slow: ") for _ in range(2 * CUT_OFF_AT_ONCE + 1)))
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


async def test_a_connection_that_asks_nothing_is_closed(address: tuple[str, int]) -> None:
    assert await talk(address) == b""


async def test_a_body_that_stops_is_cut_off(shared: Served, address: tuple[str, int]) -> None:
    head = f"POST /v1/emails HTTP/1.1\r\nhost: x\r\nx-api-key: {shared.acme_key}\r\ncontent-length: 100\r\n\r\n"
    assert (await talk(address, head.encode() + b"{")).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_drips_is_cut_off(shared: Served, address: tuple[str, int]) -> None:
    head = f"POST /v1/emails HTTP/1.1\r\nhost: x\r\nx-api-key: {shared.acme_key}\r\ncontent-length: 50000\r\n\r\n"
    reader, writer = await asyncio.open_connection(*address)
    writer.write(head.encode())
    answer = asyncio.create_task(reader.read())
    while not answer.done():  # an octet now and then, each well within the time between two pieces
        writer.write(b"{")
        await asyncio.wait((answer,), timeout=0.1)
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.parametrize(("key", "size", "status"), [("", 30, b"401"), ("wrong", 30, b"403"), ("right", 60, b"413")])
async def test_an_answer_arrives_although_its_request_is_still_coming(
    shared: Served, address: tuple[str, int], key: str, size: int, status: bytes
) -> None:
    given = {"": "", "wrong": "x-api-key: eg_wrong\r\n", "right": f"x-api-key: {shared.acme_key}\r\n"}[key]
    length = size * 1024 * 1024
    head = f"POST /v1/emails HTTP/1.1\r\nhost: x\r\n{given}connection: close\r\ncontent-length: {length}\r\n\r\n"
    reader, writer = await asyncio.open_connection(*address)
    writer.write(head.encode())
    for _ in range(length // 65536):  # as clients do that read only when they have sent everything
        writer.write(bytes(65536))
        await writer.drain()
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == status
    writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"x-long: " + b"x" * 40_000 + b"\r\ncontent-length: %d\r\n\r\n", b"431"),
        (b"no header\r\ncontent-length: %d\r\n\r\n", b"400"),
    ],
)
async def test_a_refusal_below_http_arrives_although_a_body_follows(
    address: tuple[str, int], head: bytes, status: bytes
) -> None:
    length = 8 * 1024 * 1024
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"POST /v1/emails HTTP/1.1\r\nhost: x\r\n" + head % length)
    for _ in range(length // 65536):
        writer.write(bytes(65536))
        await writer.drain()
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == status
    writer.close()


async def test_a_slow_client_finds_its_answer_when_it_has_sent_all(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"POST /v1/emails HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 600000\r\n\r\n")
    for _ in range(6):  # longer than anybody may be quiet
        await asyncio.sleep(0.1)
        writer.write(bytes(100_000))
        await writer.drain()
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def send_for_ever(writer: asyncio.StreamWriter, piece: bytes, pause: float) -> None:
    """Send pieces until the server cuts the connection."""
    async with asyncio.timeout(10):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)


@pytest.mark.parametrize(
    ("kept", "piece", "pause"),
    [("", bytes(65536), 0.0), ("connection: close\r\n", bytes(65536), 0.0), ("connection: close\r\n", b"x", 0.05)],
    ids=["much, kept", "much", "long"],
)
async def test_what_follows_an_answer_is_read_for_so_long_and_so_much_only(
    shared: Served, kept: str, piece: bytes, pause: float
) -> None:
    class Hasty(ImpatientProtocol):
        linger_bytes = 1024 * 1024

    async with serving(shared.context, Hasty) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /v1/emails HTTP/1.1\r\nhost: x\r\n{kept}content-length: 999999999\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == b"401"
        with pytest.raises(ConnectionError):
            await send_for_ever(writer, piece, pause)
        writer.close()


async def test_what_was_sent_ahead_of_a_last_answer_is_not_served(shared: Served, address: tuple[str, int]) -> None:
    key = f"x-api-key: {shared.acme_key}\r\n"
    lists = f"GET /v1/emails HTTP/1.1\r\nhost: x\r\n{key}".encode()
    answers = await talk(address, lists + b"connection: close\r\n\r\n" + 3 * (lists + b"\r\n"))
    assert answers.count(b"HTTP/1.1 ") == 1


async def test_headers_of_one_request_after_another_are_cut_off_too(address: tuple[str, int]) -> None:
    answer = await talk(address, GET + b"\r\n", GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


async def test_line_breaks_without_a_request_do_not_hold_a_connection(address: tuple[str, int]) -> None:
    answer = await talk(address, GET + b"\r\n", b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_head",
    [
        GET + b"x-large: " + b"x" * 33_000 + b"\r\n\r\n",
        GET + b"".join(b"x-%d: x\r\n" % n for n in range(101)) + b"\r\n",
        b"GET /" + b"x" * 33_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        GET + b"x-endless: " + b"x" * 70_000,
    ],
    ids=["32 KiB", "101 headers", "a long path", "no end in sight"],
)
async def test_headers_too_large_or_too_many_are_431(address: tuple[str, int], request_head: bytes) -> None:
    assert (await talk(address, request_head)).startswith(b"HTTP/1.1 431 ")


async def test_large_headers_in_small_pieces_are_431(address: tuple[str, int]) -> None:
    assert (await talk(address, GET, *[b"x" * 1000] * 33)).startswith(b"HTTP/1.1 431 ")


async def test_headers_within_the_bounds_are_served(address: tuple[str, int]) -> None:
    head = GET + b"connection: close\r\nx-large: " + b"x" * 30_000 + b"\r\n\r\n"
    assert (await talk(address, head)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /é HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
        b"POST /v1/emails HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/emails HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/emails HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\nhello",
        b"POST /v1/emails HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["TLS", "words", "a version", "a target", "a path outside ASCII", "two lengths", "two content-lengths", "a negative length", "an encoding"],
)  # fmt: skip
async def test_what_is_no_http_is_400(address: tuple[str, int], nonsense: bytes) -> None:
    answer = await talk(address, nonsense)
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:80]
    assert b"application/json" in answer


async def test_requests_sent_ahead_are_all_answered_in_order(address: tuple[str, int]) -> None:
    wrong = GET.replace(b"livez", b"nothing") + b"\r\n"
    answer = await talk(address, (GET + b"\r\n") * 2 + wrong + GET + b"connection: close\r\n\r\n")
    statuses = [line[9:12] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    # Statuses stand behind bodies too, where there is no line break between the two.
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b"HTTP/1.1 404 ") == 1
    assert statuses[0] == b"200"


async def test_a_client_that_takes_nothing_is_cut_off(shared: Served, address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
    async with asyncio.timeout(20):
        while not writer.transport.is_closing():
            try:
                writer.write(asked * 50)
                await asyncio.wait_for(writer.drain(), 0.1)
            except TimeoutError:
                await asyncio.sleep(0.05)
            except ConnectionError:
                break
    del reader
    async with shared.client("") as client:
        assert (await client.get("/v1/health/livez")).status_code == 200


async def test_fifty_slow_clients_do_not_slow_another(shared: Served) -> None:
    slow = [await asyncio.open_connection(*shared.address) for _ in range(50)]
    for _, writer in slow:
        writer.write(GET + b"x-slow: ")
    async with shared.client() as client:
        assert (await client.get("/v1/emails")).status_code == 200
    for _, writer in slow:
        writer.close()
