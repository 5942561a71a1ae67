"""The worker's loop on a real database, with a recording relay in the place of a server."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from email_gateway.delivery import Delivery, Reached
from email_gateway.delivery.signing import make_keys
from email_gateway.errors import ClaimLost, DatabaseUnavailable, SchemaMismatch
from email_gateway.foundation import Foundation
from email_gateway.mail.deliveries import Claims, Outcome, Phase, Verdict
from email_gateway.mail.domains import KeyState
from email_gateway.pace import Shape
from email_gateway.secrets import SecretsService
from email_gateway.settings import load_settings
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Record
from email_gateway.store.domains import add_domain, get_domain
from email_gateway.vault.keyring import Keyring
from email_gateway.worker import find_shape, make_loop, route_limits, work
from tests.conftest import KEY, SALT
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

GIVEN = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "an-admin-key-of-more-than-32-characters"}

Act = Callable[[Claims, Reached], Awaitable[list[Outcome]]]


class Relay:
    """Takes the place of delivery: notes what it was given, and does what the test says."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self.seen: list[uuid.UUID] = []

    async def attempt(self, claims: Claims, reached: Reached) -> list[Outcome]:
        self.seen.append(claims.message_id)
        return await self._act(claims, reached)

    async def suppress(self, claims: Claims, outcomes: Sequence[Outcome]) -> None:
        """Nothing that this relay says is hard."""


async def deliver(claims: Claims, reached: Reached) -> list[Outcome]:
    await reached(claims, Phase.DOT_PENDING)
    return [Outcome(claim, Verdict.DELIVERED, "dot", "accepted", code=250) for claim in claims.each]


async def accept(db: Database, tenant_id: uuid.UUID, **changes: object) -> uuid.UUID:
    message = new_message(**changes)
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def row_of(db: Database, message_id: uuid.UUID) -> Record:
    (row,) = await db.fetch("SELECT state, attempts, phase FROM delivery WHERE message_id = $1", message_id)
    return row


class Worker:
    """A worker under way; `stop` ends it as SIGTERM would."""

    def __init__(
        self, db: Database, keyring: Keyring, relay: Relay, field_key_age: timedelta = timedelta(days=365)
    ) -> None:
        settings = load_settings({**GIVEN, "WORKER_CONCURRENCY": "10", "FIELD_KEY_DAYS": str(field_key_age.days)})
        foundation = SimpleNamespace(db=db, keyring=keyring, settings=settings)
        self._stop = asyncio.Event()
        given = cast("Foundation", foundation)
        loop = make_loop(given, cast("Delivery", relay), route_limits(settings, Shape()))
        self._working = asyncio.create_task(work(given, loop, self._stop))

    async def ended(self) -> None:
        async with asyncio.timeout(20):
            await self._working

    async def stop(self) -> None:
        self._stop.set()
        await self.ended()


async def eventually(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(10):
        # The rows change in the database; there is nothing to await but time.
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_signing_key_ends_when_nothing_it_signed_is_on_its_way(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    domain_id = uuid.uuid4()
    keys = make_keys(await keyring.tenant(tenant_id))
    await add_domain(db, tenant_id, domain_id, "acme.example", keys, actor="test")
    await db.execute("UPDATE dkim_key SET state = 'retiring', retiring_at = now() - interval '8 days'")
    worker = Worker(db, keyring, Relay(deliver))

    async def are_retired() -> bool:
        domain = await get_domain(db, tenant_id, domain_id)
        return {key.state for key in domain.keys} == {KeyState.RETIRED}

    await eventually(are_retired)
    await worker.stop()


async def test_mail_is_delivered_until_the_worker_stops(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    worker = Worker(db, keyring, Relay(deliver))
    message_id = await accept(db, tenant_id)

    async def is_delivered() -> bool:
        return bool((await row_of(db, message_id))["state"] == "delivered")

    await eventually(is_delivered)
    await worker.stop()


@pytest.mark.parametrize(
    ("trouble", "state"),
    [
        (ClaimLost("x"), "queued"),  # what is still held of it goes back
        (DatabaseUnavailable("x"), "queued"),
        (RuntimeError("a poisonous message"), "sending"),  # its lease runs out, and it is composed alone
    ],
)
async def test_trouble_with_one_message_stops_no_other(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, trouble: Exception, state: str
) -> None:
    bad = await accept(db, tenant_id)

    async def act(claims: Claims, reached: Reached) -> list[Outcome]:
        if claims.message_id == bad:
            raise trouble
        return await deliver(claims, reached)

    worker = Worker(db, keyring, Relay(act))
    good = await accept(db, tenant_id)

    async def is_delivered() -> bool:
        return bool((await row_of(db, good))["state"] == "delivered")

    await eventually(is_delivered)
    await worker.stop()
    assert (await row_of(db, bad))["state"] == state


async def test_where_one_recipient_is_lost_the_others_go_back_and_are_in_no_doubt(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    async def act(claims: Claims, reached: Reached) -> list[Outcome]:
        if len(claims) == 2:  # another worker claims the first of them, a moment before the dot
            await db.execute("UPDATE delivery SET claim_token = gen_random_uuid() WHERE recipient = 0")
        return await deliver(claims, reached)

    worker = Worker(db, keyring, Relay(act))
    message_id = await accept(db, tenant_id, domains=("a.example", "b.example"))

    async def is_delivered() -> bool:
        return bool(await db.fetch("SELECT FROM delivery WHERE state = 'delivered'"))

    await eventually(is_delivered)
    await worker.stop()
    rows = await db.fetch(
        "SELECT state, attempts, doubts FROM delivery WHERE message_id = $1 ORDER BY recipient", message_id
    )
    assert [tuple(row) for row in rows] == [("sending", 1, 0), ("delivered", 1, 0)]


async def test_a_message_that_expired_while_it_waited_is_not_sent(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    message_id = await accept(db, tenant_id, lifetime=timedelta(0), dead_at_expiry=False)
    relay = Relay(deliver)
    worker = Worker(db, keyring, relay)

    async def is_expired() -> bool:
        return bool((await row_of(db, message_id))["state"] == "expired")

    await eventually(is_expired)
    await worker.stop()
    assert relay.seen == []


async def test_a_stopped_worker_gives_back_what_it_could_not_send(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("email_gateway.worker.GRACE", timedelta(milliseconds=50))

    async def hang(_claims: Claims, _reached: Reached) -> list[Outcome]:
        await asyncio.Event().wait()
        return []

    relay = Relay(hang)
    worker = Worker(db, keyring, relay)
    message_id = await accept(db, tenant_id)

    async def is_begun() -> bool:
        return bool(relay.seen)

    await eventually(is_begun)
    await worker.stop()
    row = await row_of(db, message_id)
    assert (row["state"], row["attempts"], row["phase"]) == ("queued", 0, None)


async def test_a_worker_that_cannot_claim_ends_with_the_reason(db: Database, keyring: Keyring) -> None:
    worker = Worker(db, keyring, Relay(deliver))
    await db.execute("ALTER TABLE delivery RENAME TO gone")
    with pytest.raises(SchemaMismatch):
        await worker.ended()


@pytest.mark.parametrize(("age", "is_renewed"), [(timedelta(days=30), True), (timedelta(0), False)])
async def test_a_worker_renews_field_keys_of_the_age_that_was_set(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, age: timedelta, is_renewed: bool
) -> None:
    before = (await keyring.tenant(tenant_id)).field_key.key_id
    await db.execute("UPDATE crypto_key SET created_at = now() - interval '31 days'")
    await db.execute(
        "INSERT INTO idempotency (tenant_id, key_hmac, fingerprint, response, expires_at)"
        " VALUES ($1, $2, $3, '', now())",
        tenant_id, bytes(16), bytes(32),
    )  # fmt: skip
    worker = Worker(db, keyring, Relay(deliver), age)

    async def is_tidied() -> bool:
        is_pruned = not await db.fetch("SELECT FROM idempotency")
        return is_pruned and ((await keyring.tenant(tenant_id)).field_key.key_id != before) == is_renewed

    await eventually(is_tidied)
    await worker.stop()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE crypto_root SET state = 'retiring'",
        "UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)",
    ],
    ids=["no active root", "a changed wrap"],
)
async def test_a_worker_that_cannot_make_keys_renews_nothing_and_delivers(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, damage: str
) -> None:
    before = (await keyring.tenant(tenant_id)).field_key.key_id
    await db.execute("UPDATE crypto_key SET created_at = now() - interval '31 days'")
    await db.execute(damage)
    worker = Worker(db, keyring, Relay(deliver), timedelta(days=30))
    message_id = await accept(db, tenant_id)

    async def is_delivered() -> bool:
        return bool((await row_of(db, message_id))["state"] == "delivered")

    await eventually(is_delivered)
    await worker.stop()
    assert (await keyring.tenant(tenant_id)).field_key.key_id == before


@pytest.mark.parametrize(
    ("environ", "rate", "connections"),
    [
        ({"SMTP_URL": "smtp://user:pw@smtp.office365.com"}, 0.5, 3),
        ({"SMTP_URL": "smtp://user:pw@smtp.office365.com", "ROUTE_RATE": "10"}, 0.5, 3),
        ({"SMTP_URL": "smtp://user:pw@smtp.acme.example", "ROUTE_RATE": "10"}, 10, None),
        ({"SMTP_URL": "smtp://user:pw@smtp.acme.example"}, None, None),
    ],
)
async def test_a_smarthost_of_a_large_provider_is_used_as_it_asks(
    environ: dict[str, str], rate: float | None, connections: int | None
) -> None:
    settings = load_settings({**GIVEN, "TRANSPORT": "smtp", **environ})
    secrets = await SecretsService.start(settings)
    try:
        limits = route_limits(settings, find_shape(settings, secrets))
    finally:
        await secrets.close()
    assert (limits.rate, limits.fleet_conversations) == (rate, connections)
