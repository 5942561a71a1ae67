import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import pytest

from email_gateway.mail.webhooks import EVENTS, new_secret
from email_gateway.store.database import Database, Record
from email_gateway.store.webhooks import SealedEndpoint, add_webhook
from email_gateway.vault.keyring import Keyring
from email_gateway.webhooks import Dispatcher, Poster
from tests.rekeying.process import Process
from tests.webhooks.receivers import Receiver, receiving

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Hooked:
    """A tenant that sends mail and has webhooks."""

    def __init__(self, db: Database, process: Process, tenant_id: UUID) -> None:
        self.db = db
        self.keyring = process.keyring
        self.tenant_id = tenant_id
        self._process = process
        self._number = 0
        self.secrets: dict[UUID, str] = {}

    async def add_webhook(
        self, receiver: Receiver | str, *events: str, tenant_id: UUID | None = None, include_personal: bool = False
    ) -> UUID:
        tenant_id = tenant_id or self.tenant_id
        url = receiver if isinstance(receiver, str) else receiver.url
        keys = await self.keyring.tenant(tenant_id)
        webhook_id, secret = uuid4(), new_secret()
        self.secrets[webhook_id] = secret
        await add_webhook(
            self.db,
            tenant_id,
            webhook_id,
            SealedEndpoint("127.0.0.1", keys.seal("webhook.endpoint", webhook_id, url.encode())),
            keys.seal("webhook.secret", webhook_id, secret.encode()),
            events or EVENTS,
            include_personal=include_personal,
        )
        return webhook_id

    async def accept(self, **changes: Any) -> UUID:
        self._number += 1
        accepted = await self._process.accept(self.tenant_id, self._number, **changes)
        return UUID(bytes=accepted.response)

    async def happen(self, message_id: UUID, kind: str, **columns: Any) -> None:
        """Write an event, as workers do."""
        values = {"tenant_id": self.tenant_id, "message_id": message_id, "kind": kind, "recipient": 0, **columns}
        marks = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        await self.db.execute(f"INSERT INTO event ({', '.join(values)}) VALUES ({marks})", *values.values())

    async def rows(self, webhook_id: UUID) -> list[Record]:
        return await self.db.fetch(
            "SELECT * FROM webhook_delivery WHERE webhook_id = $1 ORDER BY happened_at, delivery_id", webhook_id
        )

    async def standing(self, webhook_id: UUID) -> Record:
        (row,) = await self.db.fetch(
            "SELECT * FROM webhook_standing JOIN webhook USING (tenant_id, webhook_id) WHERE webhook_id = $1",
            webhook_id,
        )
        return row

    async def make_due(self) -> None:
        """Let the time pass until what waits is tried again."""
        await self.db.execute("UPDATE webhook_delivery SET next_attempt_at = now() WHERE state = 'pending'")
        await self.db.execute("UPDATE webhook_standing SET next_try_at = now()")

    async def hurry(self, receiver: Receiver, count: int) -> None:
        """Let the time pass until so many requests have come."""
        async with asyncio.timeout(20):
            while len(receiver.received) < count:
                await self.make_due()
                await self.db.execute("SELECT pg_sleep(0.01)")

    async def until_done(self, webhook_id: UUID) -> list[Record]:
        """Wait until nothing is sent to the endpoint any more and something was; return what came of it."""
        async with asyncio.timeout(20):
            while True:
                rows, standing = await self.rows(webhook_id), await self.standing(webhook_id)
                if rows and all(row["attempts"] for row in rows) and standing["claim_token"] is None:
                    return rows
                await self.db.execute("SELECT pg_sleep(0.01)")


@pytest.fixture
async def hooked(db: Database, tenant_id: UUID) -> Hooked:
    return Hooked(db, await Process.start(db), tenant_id)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def dispatching(db: Database, keyring: Keyring, poster: Poster | None = None) -> AsyncIterator[Dispatcher]:
    """A worker's dispatcher, under way."""
    dispatcher = Dispatcher(db, keyring, LOOPBACK, poster)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
