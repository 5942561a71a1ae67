"""The worker process: claims deliveries, attempts them, records what came of it."""

import asyncio
import contextlib
import socket

from email_gateway.delivery import Delivery, open_transport
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.events import Recorder
from email_gateway.mail.deliveries import Claims, Outcome, Verdict
from email_gateway.observe import get_logger
from email_gateway.queue import Queue
from email_gateway.settings import Settings
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

GRACE_SECONDS = 25.0


async def deliver(queue: Queue, delivery: Delivery, events: Recorder, *, concurrency: int) -> None:
    """Move mail until the queue stops: claim, attempt, record."""
    async with asyncio.TaskGroup() as attempts:
        async for claims in queue.claims():
            attempts.create_task(attempt(claims, queue, delivery, events))


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
        # One message must not stop the others; its lease runs out, and after five times it is dead.
        log.exception("attempt_failed", message_id=str(claims.message_id))
    queue.forget(claims)  # not when cancelled: the queue then gives back what was not sent


def too_late(claims: Claims) -> list[Outcome]:
    """Defer every recipient of a message that expired while it waited: the store then ends it."""
    return [Outcome(claim, Verdict.DEFERRED, stage="queue", reason="expired") for claim in claims.each]
