"""What the tests of faults do over and over: send many mails, wait, count copies, look at the books."""

import collections
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from bench.gateway import HTTP, Gateway
from email_gateway.store.database import Database
from tests.flow.tempered import Tempered
from tests.marks import marked

BATCH = 100


def send_mails(gateway: Gateway, count: int, **fields: object) -> list[str]:
    """Accept so many mails to somebody at example.net each, and return their ids."""
    return [
        sent
        for start in range(0, count, BATCH)
        for sent in send_batch(gateway, [fields for _ in range(min(BATCH, count - start))])
    ]


def send_batch(gateway: Gateway, each: Sequence[Mapping[str, object]]) -> list[str]:
    """Accept one mail for each of these, with its fields in the place of the usual ones, and return their ids."""
    mails = [
        {
            "from": "billing@acme.example",
            "to": f"{marked('to')}@example.net",
            "subject": "A bill",
            "text": "x",
            **fields,
        }
        for fields in each
    ]
    request = urllib.request.Request(
        f"{gateway.url}/emails/batch",
        json.dumps(mails).encode(),
        {"Authorization": f"Bearer {gateway.api_key}", "Content-Type": "application/json"},
    )
    with HTTP.open(request, timeout=30) as answer:
        return [mail["id"] for mail in json.load(answer)["data"]]


def add_tenant(gateway: Gateway) -> str:
    """Make another tenant and return its API key."""
    return str(json.loads(gateway.command("tenants", "create", "other", "--json"))["api_key"])


def wait_until(condition: Callable[[], bool], *, seconds: float = 60, what: str = "it") -> None:
    """Look until the condition holds; the test fails when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.02)


def copies(server: Tempered) -> dict[str, int]:
    """How often each message was taken, where it was more than once."""
    return {message: times for message, times in collections.Counter(server.ids()).items() if times > 1}


async def rows(gateway: Gateway, sql: str, *arguments: object) -> list[Any]:
    """What the gateway's database says."""
    db = await Database.connect(gateway.postgres.url, pool_size=1)
    try:
        return await db.fetch(sql, *arguments)
    finally:
        await db.close()


async def states(gateway: Gateway) -> dict[str, int]:
    """How many deliveries stand in each state."""
    found = await rows(gateway, "SELECT state, count(*) AS n FROM delivery GROUP BY state")
    return {row["state"]: row["n"] for row in found}


async def settled(gateway: Gateway, *, seconds: float = 60, **wanted: int) -> None:
    """Wait until so many deliveries stand in these states and none elsewhere, and the books balance."""
    deadline = time.monotonic() + seconds
    while (found := await states(gateway)) != wanted:
        assert time.monotonic() < deadline, f"the deliveries stand at {found}, not at {wanted}"
        await anyio.sleep(0.1)
    assert [row["difference"] for row in await rows(gateway, "SELECT difference FROM conservation")] == [0]


@contextmanager
def stalled_postgres(gateway: Gateway) -> Iterator[None]:
    """PostgreSQL stands still, connections open: a disk that hangs, a machine that is moved."""
    postmaster = gateway.postgres.pid
    assert postmaster is not None
    processes = [postmaster, *_children(postmaster)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:  # noqa: PTH123 - not a file of anybody's
        return [int(child) for child in listed.read().split()]
