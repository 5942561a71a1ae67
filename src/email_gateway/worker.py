"""The worker process: claims deliveries, attempts them, records what came of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from math import ceil

from email_gateway.delivery import Courtesy, Delivery, find_host, open_transport
from email_gateway.errors import ClaimLost, DatabaseUnavailable, KeyUnavailable, SecretUnavailable, Tampered
from email_gateway.events import Recorder
from email_gateway.foundation import Foundation, open_foundation
from email_gateway.limits.shared_rate import SharedRate
from email_gateway.mail.deliveries import SIMULATOR_LANE, Claims, Outcome, Verdict
from email_gateway.observe import get_logger
from email_gateway.pace import Keeper, NotYet, Pace, PaceLimits, Reserve, Shape, Turn, shape_of
from email_gateway.queue import Queue
from email_gateway.secrets import SecretsService
from email_gateway.settings import Settings
from email_gateway.store.accepting import prune_idempotency_keys
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.store.domains import retire_keys
from email_gateway.store.statistics import fold_tallies
from email_gateway.store.suppressions import prune_suppressions
from email_gateway.store.webhook_deliveries import tidy_webhooks
from email_gateway.vault.keyring import Keyring
from email_gateway.webhooks import GIVE_UP_AFTER, Dispatcher

log = get_logger(__name__)

# How long attempts under way may take after a stop was asked for; shorter than what
# orchestrators wait before they kill (30 s).
GRACE = timedelta(seconds=20)
TIDY_EVERY = timedelta(minutes=10)
FOLD_EVERY = timedelta(seconds=2)
# What was heard of a held route by a probe with a reply may be this message's doing: the next probe takes another.
STAND_BACK = timedelta(seconds=30)
AFTER_OUTAGE = timedelta(seconds=1)
# For each connection this much is composed, so that one that becomes free has something to send.
COMPOSED_AHEAD = 1.5
# No destination takes more than this part of the connections once there are others: one that hangs leaves room.
DESTINATION_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Loop:
    """What moves mail: which deliveries, when, how, and where it is written down."""

    queue: Queue
    pace: Pace
    keeper: Keeper
    delivery: Delivery
    events: Recorder


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Deliver mail until `stop` is set, then finish what is under way and give back the rest."""
    async with open_foundation(settings, "worker") as foundation:
        db, keyring = foundation.db, foundation.keyring
        shape = find_shape(settings, foundation.secrets)
        async with (
            open_transport(
                settings, foundation.secrets, db, keyring, Courtesy(shape.mails, shape.recipients)
            ) as transport,
            open_shared_rate(foundation) as reserve,
        ):
            log.info("worker_ready", transport=settings.transport)
            loop = make_loop(foundation, Delivery(transport, keyring, db), route_limits(settings, shape), reserve)
            await work(foundation, loop, stop)
        log.info("worker_stopped")


@contextlib.asynccontextmanager
async def open_shared_rate(foundation: Foundation) -> AsyncIterator[Reserve | None]:
    """Count rates for the whole fleet in Redis, where there is one; else each worker keeps to its part."""
    secret = foundation.secrets.find("redis-url")
    url = secret.value if secret else foundation.settings.redis_url
    if url is None:
        yield None
        return
    shared = SharedRate(url)
    try:
        yield shared.reserve
    finally:
        await shared.close()


def find_shape(settings: Settings, secrets: SecretsService) -> Shape:
    """Return what is known of the server that this process hands mail to."""
    host = find_host(settings, secrets)
    return shape_of(host) if host else Shape()


def route_limits(settings: Settings, shape: Shape) -> PaceLimits:
    """Return what the settings allow of what the server at the other end is known to bear."""
    connections = settings.route_connections if settings.transport == "smtp" else settings.worker_concurrency
    rates = [rate for rate in (settings.route_rate or None, shape.per_second) if rate is not None]
    return PaceLimits(
        ceil(connections * COMPOSED_AHEAD),
        ceil(connections * DESTINATION_SHARE),
        rate=min(rates, default=None),
        fleet_conversations=shape.connections,
    )


def make_loop(foundation: Foundation, delivery: Delivery, limits: PaceLimits, reserve: Reserve | None = None) -> Loop:
    """Put the parts of the loop together, as the settings have them."""
    settings, db = foundation.settings, foundation.db
    pace = Pace(settings.transport, limits, reserve)
    keeper = Keeper(db, pace, prepare=lambda reason: renew_credentials(foundation, reason))
    return Loop(
        Queue(
            db,
            capacity=settings.worker_concurrency,
            max_doubts=settings.max_doubts,
            choose=partial(choose, keeper),
        ),
        pace,
        keeper,
        delivery,
        Recorder(db, foundation.keyring, max_doubts=settings.max_doubts),
    )


async def work(foundation: Foundation, loop: Loop, stop: asyncio.Event) -> None:
    """Run the loop and its upkeep until `stop`; fail when one of them fails."""
    moving = asyncio.create_task(deliver(loop))
    webhooks = Dispatcher(foundation.db, foundation.keyring, foundation.settings.webhook_networks)
    keeping = (
        loop.queue.keep(),
        loop.queue.expire(),
        loop.keeper.keep(),
        webhooks.run(),
        tidy(foundation),
        fold(foundation.db),
    )
    upkeep = [asyncio.create_task(task) for task in keeping]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((moving, *upkeep, stopped), return_when=asyncio.FIRST_COMPLETED)
        loop.queue.stop()
        await asyncio.wait((moving,), timeout=GRACE.total_seconds())
    finally:
        for task in (stopped, moving, *upkeep):
            task.cancel()
        results = await asyncio.gather(moving, *upkeep, return_exceptions=True)
        with contextlib.suppress(DatabaseUnavailable):  # the leases run out by themselves
            await loop.queue.close()
    for result in results:
        if isinstance(result, Exception):
            raise result


async def tidy(foundation: Foundation) -> None:
    """Forget now and then what has expired, end keys that are past use, and renew field keys that are old, until cancelled."""
    db, field_key_age = foundation.db, foundation.settings.field_key_age
    while True:
        with contextlib.suppress(DatabaseUnavailable):  # the next round will do
            await prune_idempotency_keys(db)
            await retire_keys(db)
            await prune_suppressions(db)
            await tidy_webhooks(db, GIVE_UP_AFTER)
            if field_key_age:
                await renew_field_keys(foundation.keyring, field_key_age)
        await asyncio.sleep(TIDY_EVERY.total_seconds())


async def fold(db: Database) -> None:
    """Keep what the running totals are read from short, until cancelled."""
    while True:
        with contextlib.suppress(DatabaseUnavailable):  # the next round will do
            await fold_tallies(db)
        await asyncio.sleep(FOLD_EVERY.total_seconds())


async def renew_field_keys(keyring: Keyring, age: timedelta) -> None:
    """Renew some of the field keys of this age; the rest in the next rounds, so that no round is long."""
    try:
        if renewed := await keyring.renew_old_field_keys(age):
            log.info("field_keys_renewed", tenants=renewed)
    except (KeyUnavailable, Tampered) as error:  # mail flows on under the keys there are
        log.warning("field_keys_not_renewed", error=error)


async def renew_credentials(foundation: Foundation, reason: str) -> None:
    """Read the smarthost's URL anew before a login that was refused is tried again."""
    if reason == "auth_failed" and foundation.secrets.can_change:
        with contextlib.suppress(SecretUnavailable):
            await foundation.secrets.refresh()


async def deliver(loop: Loop) -> None:
    """Move mail until the queue stops: claim, wait for a turn, attempt, record."""
    try:
        async with asyncio.TaskGroup() as attempts:
            async for claims in loop.queue.claims():
                turn = None if claims.is_simulated else loop.pace.stand_in_line(claims)
                attempts.create_task(attempt(loop, claims, turn))
    except ExceptionGroup as group:
        # Attempts raise nothing, so it holds one error, of claiming: its class decides the exit code.
        raise group.exceptions[0] from None


async def attempt(loop: Loop, claims: Claims, turn: Turn | None) -> None:
    """Attempt the deliveries of one message in their turn; whatever happens, its claims are let go of.

    Without a turn they are the simulator's.
    """
    try:
        outcomes = await (simulate(loop, claims) if turn is None else converse(loop, turn))
        await loop.events.record(claims, outcomes)
        await loop.delivery.suppress(claims, outcomes)
    except NotYet:
        await give_back(loop.queue, claims, reason="not_yet")
    except ClaimLost:
        # Nothing was sent. Of several recipients some may still be held, and their dot be committed.
        log.warning("claim_lost", message_id=str(claims.message_id))
        await give_back(loop.queue, claims, reason="claim_lost")
    except DatabaseUnavailable as error:
        # Before the dot, so nothing was sent.
        log.warning("attempt_put_off", message_id=str(claims.message_id), error=error)
        await give_back(loop.queue, claims, reason=error.code)
    except Exception:
        # One message must not stop the others. Its lease runs out, and it is tried alone.
        log.exception("attempt_failed", message_id=str(claims.message_id))
    loop.queue.forget(claims)  # not when cancelled: the queue then gives back what was not sent


async def simulate(loop: Loop, claims: Claims) -> Sequence[Outcome]:
    """Answer for the simulator, out of turn: no route, destination or sender has to do with it."""
    if claims.is_expired:
        return too_late(claims)
    await loop.queue.begin_composing(claims)
    return await loop.delivery.attempt(claims, reached=loop.queue.reached)


def choose(keeper: Keeper, room: int, lanes: Iterable[str]) -> Turns:
    """Return what may be claimed now: as the pace has it, and beside it a quarter for the simulator."""
    queued = tuple(lanes)
    if SIMULATOR_LANE not in queued:
        return keeper.turns(room, queued)
    share = max(1, room // 4)
    turns = keeper.turns(max(1, room - share), [lane for lane in queued if lane != SIMULATOR_LANE])
    return replace(turns, quotas={**turns.quotas, SIMULATOR_LANE: share})


async def converse(loop: Loop, turn: Turn) -> Sequence[Outcome]:
    """Wait for the turn, attempt, and let the route learn from what was heard."""
    if turn.claims.is_expired:
        turn.give_up()
        return too_late(turn.claims)
    async with turn:
        await loop.queue.begin_composing(turn.claims)
        outcomes = await loop.delivery.attempt(turn.claims, reached=loop.queue.reached)
        loop.keeper.hear(turn, outcomes)
    return [stand_back(outcome) for outcome in outcomes] if turn.probes else outcomes


def stand_back(outcome: Outcome) -> Outcome:
    """Have a probe that was refused by name make room for another message: it may be the message."""
    is_refused = outcome.verdict is Verdict.HELD and outcome.stage in ("mail", "rcpt", "data", "dot")
    return replace(outcome, wait=STAND_BACK) if is_refused and outcome.code is not None else outcome


async def give_back(queue: Queue, claims: Claims, *, reason: str) -> None:
    """Return to the queue what was not sent.

    Tried until the database takes it: a lease that runs out would look as if the message had killed its worker,
    or, where the dot was committed, as if it had been sent.
    """
    while True:
        try:
            return await queue.give_back(claims, reason=reason)
        except DatabaseUnavailable:
            await asyncio.sleep(AFTER_OUTAGE.total_seconds())


def too_late(claims: Claims) -> list[Outcome]:
    """Defer every recipient of a message that expired while it waited: the store then ends it."""
    return [Outcome(claim, Verdict.DEFERRED, stage="queue", reason="expired") for claim in claims.each]
