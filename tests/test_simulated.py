"""Mail to the simulator, from its acceptance to its end, beside a worker whose route is away or held."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from email_gateway.api.preparing import Order, prepare
from email_gateway.delivery import Delivery
from email_gateway.foundation import Foundation
from email_gateway.observe.metrics import REGISTRY
from email_gateway.pace import Shape
from email_gateway.settings import load_settings
from email_gateway.store import holds
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.dead_letters import retry_message
from email_gateway.store.holds import Target
from email_gateway.store.messages import list_events
from email_gateway.store.statistics import list_counts, list_recounts
from email_gateway.vault.keyring import Keyring
from email_gateway.worker import make_loop, route_limits, work
from tests.delivery.attempting import transport_to
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio

PRODUCTION = {
    "APP_ENV": "production",
    "AWS_REGION": "eu-central-1",
    "TRANSPORT": "smtp",
    "WORKER_CONCURRENCY": "4",
}


async def accept(db: Database, keyring: Keyring, tenant_id: uuid.UUID, *to: str, **fields: object) -> uuid.UUID:
    """Accept a mail as the interface does."""
    keys = await keyring.tenant(tenant_id)
    body = {"from": "billing@acme.example", "to": to, "subject": "x", "text": "x", **fields}
    request = prepare(Order("one", {}, None), keys, json.dumps(body).encode())
    acceptor = Acceptor(db)
    await acceptor.accept(request)
    await acceptor.close()
    return request.messages[0].message_id


@asynccontextmanager
async def working(db: Database, keyring: Keyring, server: SmtpServer) -> AsyncIterator[None]:
    """A worker of a deployed gateway whose smarthost is `server`."""
    settings = load_settings(PRODUCTION)
    foundation = cast("Foundation", SimpleNamespace(db=db, keyring=keyring, settings=settings))
    stop = asyncio.Event()
    async with transport_to(server) as transport:
        loop = make_loop(foundation, Delivery(transport, keyring, db), route_limits(settings, Shape()))
        task = asyncio.create_task(work(foundation, loop, stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def settled(db: Database, message_id: uuid.UUID, *states: str) -> None:
    async with asyncio.timeout(20):
        while [row["state"] for row in await deliveries(db, message_id)] != list(states):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def deliveries(db: Database, message_id: uuid.UUID) -> list[dict[str, object]]:
    rows = await db.fetch("SELECT * FROM delivery WHERE message_id = $1 ORDER BY recipient", message_id)
    return [dict(row) for row in rows]


async def events(
    db: Database, tenant_id: uuid.UUID, message_id: uuid.UUID, recipient: int
) -> list[tuple[str, str | None]]:
    found = await list_events(db, tenant_id, message_id)
    return [(event.kind, event.reason) for event in found if event.recipient == recipient]


async def test_every_address_leaves_the_events_that_a_server_would_have_left(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    locals_ = ("delivered", "bounced", "complained", "suppressed", "delayed+1", "in-doubt", "nobody")
    counted = REGISTRY.get_sample_value("email_gateway_in_doubt_total") or 0.0
    async with SmtpServer() as server, working(db, keyring, server):
        sent = await accept(db, keyring, tenant_id, *(f"{local}@simulator.example" for local in locals_))
        await settled(db, sent, "delivered", "bounced", "delivered", "suppressed", "queued", "queued", "bounced")
        await db.execute("UPDATE delivery SET next_attempt_at = now() WHERE state = 'queued'")
        await settled(db, sent, "delivered", "bounced", "delivered", "suppressed", "delivered", "delivered", "bounced")
    said = "simulated"
    begun: tuple[str, str | None] = ("sending", None)
    delivered: tuple[str, str | None] = ("delivered", said)
    for recipient, expected in enumerate(
        [
            [begun, delivered],
            [begun, ("bounced", said)],
            [begun, delivered, ("complained", said)],
            [begun, ("suppressed", said)],
            [begun, ("deferred", said), begun, delivered],
            [begun, ("in_doubt", said), begun, delivered],
            [begun, ("bounced", said)],
        ]
    ):
        assert await events(db, tenant_id, sent, recipient) == expected
    assert server.connections == 0
    assert await list_recounts(db) == {}
    (counts,) = await list_counts(db)
    assert counts.difference == 0
    assert (REGISTRY.get_sample_value("email_gateway_in_doubt_total") or 0.0) == counted


async def test_of_a_mixed_mail_only_the_real_recipients_reach_the_server(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    async with SmtpServer() as server, working(db, keyring, server):
        sent = await accept(db, keyring, tenant_id, "maria@example.net", "bounced@simulator.example", "ana@example.org")
        await settled(db, sent, "delivered", "bounced", "delivered")
    (receipt,) = server.receipts
    assert receipt.recipients == ("maria@example.net", "ana@example.org")


async def test_it_waits_for_no_route_that_an_operator_holds(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    await holds.hold(db, Target(), actor="ana", reason="everything")
    async with SmtpServer() as server, working(db, keyring, server):
        real = await accept(db, keyring, tenant_id, "maria@example.net")
        sent = [await accept(db, keyring, tenant_id, "delivered@simulator.example") for _ in range(20)]
        for message_id in sent:
            await settled(db, message_id, "delivered")
        assert [row["state"] for row in await deliveries(db, real)] == ["queued"]
    assert server.connections == 0
    assert await db.fetch("SELECT FROM pace WHERE held_by IS DISTINCT FROM 'operator'") == []


async def test_a_held_doubt_is_a_dead_letter_that_its_caller_can_retry(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    async with SmtpServer() as server, working(db, keyring, server):
        sent = await accept(db, keyring, tenant_id, "in-doubt@simulator.example", on_doubt="hold")
        await settled(db, sent, "dead")
        assert (await deliveries(db, sent))[0]["reason"] == "in_doubt"
        assert await retry_message(db, tenant_id, sent, actor="test") == 1
        await settled(db, sent, "delivered")
    assert server.connections == 0


async def test_what_outlived_a_worker_is_answered_too(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    sent = await accept(db, keyring, tenant_id, "delivered@simulator.example")
    await db.execute("UPDATE delivery SET lane = 'suspect', crashes = 1")
    async with SmtpServer() as server, working(db, keyring, server):
        await settled(db, sent, "delivered")
    assert server.connections == 0


async def test_what_came_too_late_ends_as_everything_does(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    sent = await accept(db, keyring, tenant_id, "delivered@simulator.example", expires_after=60)
    await db.execute("UPDATE delivery SET expires_at = now() - interval '1 second'")
    await db.execute("UPDATE message SET expires_at = now() - interval '1 second'")
    async with SmtpServer() as server, working(db, keyring, server):
        await settled(db, sent, "expired")
