"""The worker process: claims deliveries, attempts them, records what came of it."""

import asyncio
import contextlib
from datetime import timedelta

from email_gateway.delivery import Delivery, open_transport
from email_gateway.errors import ClaimLost, DatabaseUnavailable, KeyUnavailable, Tampered
from email_gateway.events import Recorder
from email_gateway.foundation import Foundation, open_foundation
from email_gateway.mail.deliveries import Claims, Outcome, Verdict
from email_gateway.observe import get_logger
from email_gateway.queue import Queue
from email_gateway.settings import Settings
from email_gateway.store.messages import prune_idempotency_keys
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

# How long attempts under way may take after a stop was asked for; shorter than what
# orchestrators wait before they kill (30 s).
GRACE = timedelta(seconds=20)
TIDY_EVERY = timedelta(minutes=10)


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Deliver mail until `stop` is set, then finish what is under way and give back the rest."""
    async with open_foundation(settings, "worker") as foundation:
        db, keyring = foundation.db, foundation.keyring
        async with open_transport(settings, foundation.secrets, db, keyring) as transport:
            log.info("worker_ready", transport=settings.transport)
            await work(foundation, Delivery(transport, keyring, db), stop)
        log.info("worker_stopped")


async def work(foundation: Foundation, delivery: Delivery, stop: asyncio.Event) -> None:
    """Run the loop and its upkeep until `stop`; fail when one of them fails."""
    queue = Queue(foundation.db, capacity=foundation.settings.worker_concurrency)
    events = Recorder(foundation.db, foundation.keyring)
    loop = asyncio.create_task(deliver(queue, delivery, events))
    upkeep = (asyncio.create_task(queue.keep()), asyncio.create_task(tidy(foundation)))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((loop, *upkeep, stopped), return_when=asyncio.FIRST_COMPLETED)
        queue.stop()
        await asyncio.wait((loop,), timeout=GRACE.total_seconds())
    finally:
        for task in (stopped, loop, *upkeep):
            task.cancel()
        results = await asyncio.gather(loop, *upkeep, return_exceptions=True)
        with contextlib.suppress(DatabaseUnavailable):  # the leases run out by themselves
            await queue.close()
    for result in results:
        if isinstance(result, Exception):
            raise result


async def tidy(foundation: Foundation) -> None:
    """Forget now and then what has expired, and renew the field keys that are old, until cancelled."""
    db, field_key_age = foundation.db, foundation.settings.field_key_age
    while True:
        with contextlib.suppress(DatabaseUnavailable):  # the next round will do
            await prune_idempotency_keys(db)
            if field_key_age:
                await renew_field_keys(foundation.keyring, field_key_age)
        await asyncio.sleep(TIDY_EVERY.total_seconds())


async def renew_field_keys(keyring: Keyring, age: timedelta) -> None:
    """Renew some of the field keys of this age; the rest in the next rounds, so that no round is long."""
    try:
        if renewed := await keyring.renew_old_field_keys(age):
            log.info("field_keys_renewed", tenants=renewed)
    except (KeyUnavailable, Tampered) as error:  # mail flows on under the keys there are
        log.warning("field_keys_not_renewed", error=error)


async def deliver(queue: Queue, delivery: Delivery, events: Recorder) -> None:
    """Move mail until the queue stops: claim, attempt, record."""
    try:
        async with asyncio.TaskGroup() as attempts:
            async for claims in queue.claims():
                attempts.create_task(attempt(claims, queue, delivery, events))
    except ExceptionGroup as group:
        # Attempts raise nothing, so it holds one error, of claiming: its class decides the exit code.
        raise group.exceptions[0] from None


async def attempt(claims: Claims, queue: Queue, delivery: Delivery, events: Recorder) -> None:
    """Attempt the deliveries of one message; whatever happens, its claims are let go of."""
    try:
        outcomes = too_late(claims) if claims.is_expired else await delivery.attempt(claims, reached=queue.reached)
        await events.record(claims, outcomes)
    except ClaimLost:
        log.warning("claim_lost", message_id=str(claims.message_id))
    except DatabaseUnavailable:
        # Nothing is lost: the lease runs out and the deliveries are rescued, in doubt or not.
        log.warning("attempt_unrecorded", message_id=str(claims.message_id))
    except Exception:
        # One message must not stop the others. Its lease runs out, and after five times the store
        # puts it aside as dead.
        log.exception("attempt_failed", message_id=str(claims.message_id))
    queue.forget(claims)  # not when cancelled: the queue then gives back what was not sent


def too_late(claims: Claims) -> list[Outcome]:
    """Defer every recipient of a message that expired while it waited: the store then ends it."""
    return [Outcome(claim, Verdict.DEFERRED, stage="queue", reason="expired") for claim in claims.each]
