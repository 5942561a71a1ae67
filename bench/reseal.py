"""Values resealed per second while mail flows, beside the same walk that writes the same bytes without crypto.

`python -m bench --only reseal`. Both run over messages of 1 to 5 KB and a tax id each, really
sealed, in a database of their own, while a client sends a hundred mails a second. A walk is
repeated, each time to a newer key; its figure is the median, beside the slowest.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from rich.table import Table
from uuid_utils.compat import uuid7

from bench import gateway
from bench.load import email, request, status_of
from email_gateway.mail.tax_ids import parse_tax_id
from email_gateway.rekeying.reseal import Replacement, reseal_page
from email_gateway.rekeying.walking import MAX_OCTETS, MAX_ROWS, Done, OldKeys, Pace, Steps, walk_on
from email_gateway.secrets import SecretsService
from email_gateway.settings import load_settings
from email_gateway.store.accounts import find_tenant_by_name
from email_gateway.store.database import Database, Queries
from email_gateway.store.key_walks import (
    Position,
    Relation,
    SealedPage,
    begin_walk,
    page_rows,
    replace_values,
)
from email_gateway.vault.data_keys import FieldKey
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots

MESSAGES = 100_000
SMALLEST, LARGEST = 1_000, 5_000
# A steady flow, nine million a day: a client that sends as fast as it can would measure who wins the cores.
MAILS_PER_SECOND = 100
TARGET = 20_000  # values per second on two cores, while mail flows
CRYPTO_PAGES = 40
COLUMNS = (
    "tenant_id", "message_id", "sealed_content", "sealed_tax_id", "size", "sender_domain", "delivery_count",
    "expires_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """What the runs of one walk did, and how many mails per second were accepted meanwhile."""

    name: str
    rates: list[float]  # values per second of each run
    accepted_per_second: float

    @property
    def values_per_second(self) -> float:
        return statistics.median(self.rates)


def keep_sending(port: int, api_key: str, stop: Event, count: Any) -> None:
    """Send mails over one connection, MAILS_PER_SECOND, until told to stop; in a process of its own."""
    mail = request("/v1/emails", api_key, email(1))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        while not stop.is_set():
            time.sleep(max(0.0, began + count.value / MAILS_PER_SECOND - time.monotonic()))
            connection.sendall(mail)
            answer = b""
            while (status := status_of(answer)) is None:
                received = connection.recv(64 * 1024)
                if not received:
                    raise RuntimeError("the gateway closed the connection")
                answer += received
            if status != b"202":
                raise RuntimeError(f"a mail was not accepted: {status.decode()}")
            count.value += 1


class Sender:
    """A client that sends while a walk runs."""

    def __init__(self, running: gateway.Gateway) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._count = context.Value("q", 0)
        self._process = context.Process(
            target=keep_sending, args=(running.port, running.api_key, self._stop, self._count), daemon=True
        )

    @property
    def count(self) -> int:
        return int(self._count.value)

    def start(self) -> None:
        """Return when the first mail was accepted."""
        self._process.start()
        while not self.count:
            time.sleep(0.01)

    def stop(self) -> None:
        """End the client; raises when a mail of it was refused."""
        self._stop.set()
        self._process.join()
        if self._process.exitcode:
            raise RuntimeError("a mail was not accepted while values were resealed")


async def fill(running: gateway.Gateway) -> None:
    """Insert sealed messages by COPY."""
    async with vault_of(running) as (_, keyring, tenant_id):
        keys = await keyring.tenant(tenant_id)
        connection = await asyncpg.connect(running.postgres.url)
        tax_id = parse_tax_id("529.982.247-25").pack()
        expires_at = datetime.now(UTC) + timedelta(days=5)
        text = os.urandom(LARGEST)

        def rows() -> Iterator[tuple[object, ...]]:
            for _ in range(MESSAGES):
                message_id: UUID = uuid7()
                size = random.randint(SMALLEST, LARGEST)
                content = keys.seal("message.content", message_id, text[:size])
                sealed_tax_id = keys.seal("message.tax_id", message_id, tax_id)
                yield tenant_id, message_id, content, sealed_tax_id, size, "example.com", 1, expires_at

        await connection.copy_records_to_table("message", records=rows(), columns=COLUMNS)
        await connection.close()


@contextlib.asynccontextmanager
async def vault_of(running: gateway.Gateway) -> Any:
    """Open the gateway's vault in this process."""
    service = await SecretsService.start(load_settings(running.environ))
    db = await Database.connect(running.postgres.url, pool_size=4)
    try:
        tenant = await find_tenant_by_name(db, "bench")
        assert tenant is not None
        yield db, await Keyring.start(db, SecretsRoots(service)), tenant.tenant_id
    finally:
        await db.close()
        await service.close()


async def settle(running: gateway.Gateway) -> None:
    """Vacuum and write out, as PostgreSQL does by itself in the days between two rotations."""
    connection = await asyncpg.connect(running.postgres.url)
    await connection.execute("VACUUM ANALYZE message")
    await connection.execute("CHECKPOINT")
    await connection.close()


def reseal_ours(running: gateway.Gateway) -> float:
    """Run the command as an operator does; return values per second."""
    running.command("keys", "renew", "--tenant", "bench")
    told = json.loads(running.command("keys", "reseal", "--tenant", "bench", "--rate", "0", "--json"))
    return float(sum(each["counts"]["moved"] for each in told["resealed"]) / told["seconds"])


async def rewrite(running: gateway.Gateway) -> float:
    """Walk as ours does, and write each value as it was read; return values per second."""
    async with vault_of(running) as (db, keyring, tenant_id):

        async def write(transaction: Queries, work: Replacement) -> int:
            return await replace_values(transaction, Relation.MESSAGE, tenant_id, *work)

        began = time.perf_counter()
        walk = await begin_walk(db, tenant_id, "bench", bytes(16))
        steps = Steps(Relation.MESSAGE, copy_page, write)
        counts = await walk_on(db, walk, OldKeys(keyring, tenant_id), steps, Pace(0), lambda _: None)
        return counts.moved / (time.perf_counter() - began)


def copy_page(page: SealedPage) -> Done[Replacement]:
    """Return the page's values as they are."""
    return Done((page, [list(column) for column in page.values]), sum(map(len, page.values)), ())


async def crypto_alone(running: gateway.Gateway) -> float:
    """Open and seal the values of some pages in memory, in one thread; return values per second."""
    async with vault_of(running) as (db, keyring, tenant_id):
        pages, at = [], Position()
        for _ in range(CRYPTO_PAGES):
            page = await page_rows(db, Relation.MESSAGE, tenant_id, at, rows=MAX_ROWS, octets=MAX_OCTETS)
            assert page is not None  # there are more messages than these
            pages.append(page)
            at = page.end
        old_keys, newest = OldKeys(keyring, tenant_id), FieldKey(os.urandom(32), tenant_id)
        await old_keys.load(pages[0])
        began = time.perf_counter()
        values = sum(reseal_page(page, Relation.MESSAGE, old_keys, newest).values for page in pages)
        return values / (time.perf_counter() - began)


def measure(repeat: int) -> list[Figure]:
    """Run both walks, each over a database of its own."""
    figures = []
    with gateway.running("api") as running:
        asyncio.run(fill(running))
        figures.append(walk_often("keys reseal", repeat, running, lambda: reseal_ours(running)))
    with gateway.running("api") as running:
        asyncio.run(fill(running))
        figures.append(
            walk_often("the same walk without crypto", repeat, running, lambda: uvloop.run(rewrite(running)))
        )
        rates = [asyncio.run(crypto_alone(running)) for _ in range(repeat)]
        figures.append(Figure("crypto alone, one thread", rates, 0.0))
    return figures


def walk_often(name: str, repeat: int, running: gateway.Gateway, walk: Callable[[], float]) -> Figure:
    """Walk so many times while mail flows; only mails that a walk was under way for are counted."""
    sender = Sender(running)
    sender.start()
    rates, accepted, seconds = [], 0, 0.0
    for _ in range(repeat):
        asyncio.run(settle(running))
        before, began = sender.count, time.perf_counter()
        rates.append(walk())
        accepted += sender.count - before
        seconds += time.perf_counter() - began
    sender.stop()
    return Figure(name, rates, accepted / seconds)


def as_plain(figures: list[Figure]) -> list[dict[str, object]]:
    """Return the figures for machines."""
    return [
        {
            "name": figure.name,
            "values_per_second": figure.values_per_second,
            "slowest_values_per_second": min(figure.rates),
            "accepted_per_second": figure.accepted_per_second,
        }
        for figure in figures
    ]


def table_of(figures: list[Figure]) -> Table:
    """Set ours beside its peer."""
    table = Table(title=f"{MESSAGES:,} messages of 1 to 5 KB and a tax id each, resealed while mail flows")
    table.add_column("")
    for column in ("values/s, median", "slowest", "accepted/s meanwhile"):
        table.add_column(column, justify="right")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.values_per_second:,.0f}",
            f"{min(figure.rates):,.0f}",
            f"{figure.accepted_per_second:,.0f}" if figure.accepted_per_second else "",
        )
    return table
