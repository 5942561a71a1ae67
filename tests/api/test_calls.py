import asyncio
import os
import uuid
from typing import Any

import pytest

from email_gateway.api.bodies import LARGE_BODY_BYTES, BodyBudget, LargeBody
from email_gateway.api.calls import MAX_BODY_BYTES, Call, ClientGone, read_headers
from email_gateway.errors import InvalidRequest, Overloaded, TooLarge

pytestmark = pytest.mark.anyio


def call(budget: BodyBudget, *messages: dict[str, Any], length: bytes | None = None) -> Call:
    """A request whose body arrives in these ASGI messages."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return waiting.pop(0)

    return Call({}, receive, budget, "request", {} if length is None else {b"content-length": length})


def piece(body: bytes, *, is_last: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": not is_last}


async def test_a_body_counts_against_the_budget_until_it_is_released() -> None:
    budget = BodyBudget(10)
    first = call(budget, piece(b"12345678", is_last=True), length=b"8")
    assert await first.read_body(MAX_BODY_BYTES) == b"12345678"
    with pytest.raises(Overloaded):
        await call(budget, piece(b"123", is_last=True), length=b"3").read_body(MAX_BODY_BYTES)
    first.release()
    assert await call(budget, piece(b"123", is_last=True), length=b"3").read_body(MAX_BODY_BYTES) == b"123"


async def test_a_body_without_a_length_counts_as_it_comes() -> None:
    budget = BodyBudget(10)
    unsaid = call(budget, piece(b"12345"), piece(b"67890"), piece(b"1", is_last=True))
    with pytest.raises(Overloaded):
        await unsaid.read_body(MAX_BODY_BYTES)
    unsaid.release()
    budget.take(None, 10)


async def test_room_is_taken_as_bytes_arrive_and_not_as_they_are_announced() -> None:
    budget = BodyBudget(10)
    drip = asyncio.create_task(call(budget, piece(b"1"), length=b"10").read_body(MAX_BODY_BYTES))
    await asyncio.sleep(0)
    assert await call(budget, piece(b"12345678", is_last=True), length=b"8").read_body(MAX_BODY_BYTES) == b"12345678"
    with pytest.raises(IndexError):  # its messages have come to an end
        await drip


def test_a_tenant_has_a_share_and_leaves_the_rest_to_others() -> None:
    budget, greedy, other = BodyBudget(10, share=6), uuid.uuid4(), uuid.uuid4()
    budget.take(greedy, 6)
    with pytest.raises(Overloaded, match="your request bodies"):
        budget.take(greedy, 1)
    budget.take(other, 4)
    with pytest.raises(Overloaded, match="this process holds as many request bodies"):
        budget.take(other, 1)
    budget.give_back(greedy, 6)
    budget.take(greedy, 6)


async def test_a_large_body_leaves_this_process_and_lasts_as_long_as_the_call() -> None:
    budget = BodyBudget()
    pieces = [os.urandom(LARGE_BODY_BYTES // 2 + 1) for _ in range(5)]
    large = call(budget, *map(piece, pieces[:-1]), piece(pieces[-1], is_last=True))
    body = await large.read_body(MAX_BODY_BYTES)
    assert isinstance(body, LargeBody)
    assert os.pread(body.fd, len(body) + 1, 0) == b"".join(pieces)
    assert large.held == len(body) == sum(map(len, pieces))
    large.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(body.fd)


async def test_a_body_that_carries_no_mail_has_a_limit_of_its_own() -> None:
    with pytest.raises(TooLarge, match="256 KiB"):
        await call(BodyBudget(), length=b"300000").read_small_body()
    with pytest.raises(TooLarge, match="256 KiB"):
        await call(BodyBudget(), piece(bytes(200_000)), piece(bytes(100_000), is_last=True)).read_small_body()


async def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    for length in (b"58720257", b"9" * 40, b"-1", b"x"):
        with pytest.raises(TooLarge):
            await call(BodyBudget(), length=length).read_body(MAX_BODY_BYTES)


async def test_a_client_that_leaves_is_no_request() -> None:
    for messages in ([{"type": "http.disconnect"}], [piece(b"{"), {"type": "http.disconnect"}]):
        with pytest.raises(ClientGone):
            await call(BodyBudget(), *messages).read_body(MAX_BODY_BYTES)


@pytest.mark.parametrize("name", [b"authorization", b"idempotency-key", b"content-type", b"x-admin-key"])
def test_a_header_that_decides_something_may_come_once(name: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_headers({"headers": [(name, b"a"), (b"accept", b"*/*"), (name, b"b")]})


def test_other_headers_may_come_twice() -> None:
    assert read_headers({"headers": [(b"accept", b"a"), (b"accept", b"b")]}) == {b"accept": b"b"}
