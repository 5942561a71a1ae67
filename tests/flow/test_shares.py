"""One caller's weight: drips, slow connections, bombs, large files and long lists, and a neighbour who feels none of it."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Iterator

import anyio
import httpx
import pytest

from bench.gateway import Gateway
from bench.neighbours import MOST_MEMORY, highest_memory
from tests.flow.conftest import Run
from tests.flow.mailing import add_tenant
from tests.marks import marked

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SLOW_CONNECTIONS = 1000
SMALL_MAILS = 300


@pytest.fixture
def gateway(run: Run) -> Iterator[Gateway]:
    with run("api") as gateway:
        yield gateway


def client_of(gateway: Gateway, api_key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=gateway.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=60, trust_env=False
    )


def mail(**fields: object) -> dict[str, object]:
    return {"from": "a@acme.example", "to": f"{marked('to')}@example.net", "subject": "x", "text": "x"} | fields


@contextlib.contextmanager
def slow_connections(gateway: Gateway, count: int, announced: int) -> Iterator[list[socket.socket]]:
    """So many connections of one tenant that announce a body and hardly send it."""
    head = (
        f"POST /v1/emails HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {announced}\r\n\r\n{{"
    )
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            held.append(socket.create_connection(("127.0.0.1", gateway.port), timeout=10))
            held[-1].sendall(head.encode())
        yield held
    finally:
        for one in held:
            one.close()


async def send_small(client: httpx.AsyncClient, count: int) -> set[int]:
    """Send small mails one after the other, and return the statuses."""
    statuses = set()
    for _ in range(count):
        statuses.add((await client.post("/emails", json=mail())).status_code)
        await anyio.sleep(0.01)
    return statuses


async def post(client: httpx.AsyncClient, body: bytes) -> int:
    answer = await client.post("/emails", content=body, headers={"Content-Type": "application/json"})
    return answer.status_code


async def test_drips_and_slow_connections_of_one_tenant_cost_another_nothing(gateway: Gateway) -> None:
    async with client_of(gateway, add_tenant(gateway)) as neighbour:
        with slow_connections(gateway, SLOW_CONNECTIONS, announced=100_000), slow_connections(gateway, 5, 55 * MIB):
            assert await send_small(neighbour, SMALL_MAILS) == {202}
    assert highest_memory(gateway) < MOST_MEMORY


async def test_large_files_of_one_tenant_leave_room_for_another(gateway: Gateway) -> None:
    content = base64.b64encode(bytes(21 * MIB)).decode()
    body = json.dumps(mail(attachments=[{"filename": "a.pdf", "content": content}])).encode()
    async with client_of(gateway, gateway.api_key) as greedy, client_of(gateway, add_tenant(gateway)) as neighbour:
        large = [asyncio.create_task(post(greedy, body)) for _ in range(4)]
        assert await send_small(neighbour, SMALL_MAILS) == {202}
        assert set(await asyncio.gather(*large)) <= {202, 503}
    assert highest_memory(gateway) < MOST_MEMORY


async def test_bombs_are_refused_within_the_memory_of_a_process(gateway: Gateway) -> None:
    headers = b",".join(b'"h%d":""' % number for number in range(4_000_000))
    bombs = [
        b'{"from":"a@acme.example","to":"b@example.net","subject":"x","text":"x","headers":{' + headers + b"}}",
        b'{"attachments":[{"filename":"a","content":[' + b"7," * (27 * MIB) + b"7]}]}",
    ]
    async with client_of(gateway, gateway.api_key) as greedy, client_of(gateway, add_tenant(gateway)) as neighbour:
        sent = [asyncio.create_task(post(greedy, bomb)) for bomb in bombs * 2]
        assert await send_small(neighbour, SMALL_MAILS) == {202}
        assert set(await asyncio.gather(*sent)) <= {422, 503}
    assert highest_memory(gateway) < MOST_MEMORY


async def test_lists_of_long_messages_hold_one_of_them_at_a_time(gateway: Gateway) -> None:
    async with client_of(gateway, gateway.api_key) as client:
        body = json.dumps(mail(html="<p>" + "x" * (12 * MIB))).encode()
        assert {await post(client, body) for _ in range(6)} == {202}
        answers = await asyncio.gather(*(client.get("/emails") for _ in range(12)))
        assert {answer.status_code for answer in answers} == {200}
        assert {len(answer.json()["data"]) for answer in answers} == {6}
    assert highest_memory(gateway) < MOST_MEMORY
