"""Waiting until every process of the fleet has taken up the keys as they are now."""

import asyncio
import time
from datetime import timedelta

from email_gateway.errors import Conflict
from email_gateway.store.database import Queries
from email_gateway.store.generations import Subject, list_generations
from email_gateway.store.instances import StoredInstance, list_instances

# A process that was silent for longer is taken for gone. The release before wrote its row once a minute.
LIVE_FOR = timedelta(seconds=90)
# Longer than that: a process that was killed is waited for until it is taken for gone.
PATIENCE = timedelta(seconds=105)
LOOK_EVERY = timedelta(seconds=0.5)


async def list_late(db: Queries) -> list[StoredInstance]:
    """Return the live processes that have not followed the last change of the keys."""
    now = (await list_generations(db))[Subject.KEYS].value
    return [each for each in await list_instances(db, LIVE_FOR) if each.standing.keys_generation < now]


async def wait_for_followers(db: Queries, patience: timedelta = PATIENCE) -> None:
    """Return once every live process has followed; raises Conflict naming those that do not."""
    deadline = time.monotonic() + patience.total_seconds()
    while late := await list_late(db):
        if time.monotonic() >= deadline:
            names = ", ".join(f"{each.process} {each.pid} on {each.host} ({each.release})" for each in late)
            raise Conflict(
                f"not every process has taken up the keys: {names}. See in its log whether it reaches the database"
                " and the secrets, or stop it; then run the same command again: it goes on from here"
            )
        await asyncio.sleep(LOOK_EVERY.total_seconds())
