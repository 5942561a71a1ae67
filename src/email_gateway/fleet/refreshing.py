"""A refresh of the whole fleet: asked for once, awaited everywhere, answered by process."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from email_gateway.errors import RateLimited
from email_gateway.fleet.following import LIVE_FOR, Fleet
from email_gateway.observe import get_logger
from email_gateway.secrets import SecretName
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Queries
from email_gateway.store.generations import Subject, ask_generation, bump_generation
from email_gateway.store.instances import StoredInstance, list_instances
from email_gateway.store.secret_versions import list_current, revoke_former

log = get_logger(__name__)

AT_MOST_EVERY = timedelta(seconds=10)
WAIT = timedelta(seconds=5)
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One process's answer: whether it has read every secret since, and what it holds.

    `failures` are the classes of what it could not read, by secret.
    """

    instance: str
    process: str
    host: str
    pid: int
    release: str
    acknowledged: bool
    versions: Mapping[str, str]
    failures: Mapping[str, str]
    active_root: str | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of a refresh; `complete` when every live process has acknowledged."""

    generation: int
    revoked: tuple[str, ...]
    instances: tuple[Acknowledgement, ...]

    @property
    def complete(self) -> bool:
        return bool(self.instances) and all(each.acknowledged for each in self.instances)


async def refresh_fleet(
    fleet: Fleet, *, actor: str, revoke_previous: bool = False, wait: timedelta = WAIT
) -> Refreshed:
    """Have every process read the secrets again, and wait until they have, or `wait` is over.

    Raises RateLimited when another refresh was asked for within ten seconds; one that revokes is
    never held up, and ends every admin key but the current one on every process, for good.
    """
    revoked: tuple[str, ...] = ()
    if revoke_previous:
        generation, revoked = await _revoke(fleet, actor)
    else:
        async with fleet.db.transaction() as transaction:
            asked = await ask_generation(transaction, Subject.SECRETS, AT_MOST_EVERY)
            if isinstance(asked, timedelta):
                seconds = max(1, ceil(asked.total_seconds()))
                raise RateLimited("the secrets were refreshed a moment ago: one request in ten seconds", seconds)
            generation = asked
            await add_audit(transaction, actor=actor, action="secrets.refreshed", subject=f"generation {generation}")
    log.info("secrets_refresh_asked", result="revoking" if revoke_previous else "refreshing")
    instances = await _await_all(fleet, generation, wait)
    return Refreshed(generation, revoked, instances)


async def acknowledgements(db: Queries, generation: int) -> tuple[Acknowledgement, ...]:
    """Return what every live process holds, and whether it has followed this generation of the secrets."""
    return tuple(_answer_of(each, generation) for each in await list_instances(db, LIVE_FOR))


async def _revoke(fleet: Fleet, actor: str) -> tuple[int, tuple[str, ...]]:
    name = SecretName.ADMIN_API_KEY
    await fleet.secrets.refresh()  # which key is current is asked before all others are refused
    await fleet.look()
    current = await _current_version(fleet)
    async with fleet.db.transaction() as transaction:
        revoked = tuple(await revoke_former(transaction, name, current))
        generation = await bump_generation(transaction, Subject.SECRETS)
        await add_audit(transaction, actor=actor, action="admin_key.previous_revoked", subject=f"current {current}")
    return generation, revoked


async def _current_version(fleet: Fleet) -> str:
    """Return the version that stays: of ours and the fleet's, the fleet's when ours could not be read anew."""
    known = (await list_current(fleet.db)).get(SecretName.ADMIN_API_KEY)
    return known.version_id if known else fleet.secrets.get(SecretName.ADMIN_API_KEY).version_id


async def _await_all(fleet: Fleet, generation: int, wait: timedelta) -> tuple[Acknowledgement, ...]:
    deadline = time.monotonic() + wait.total_seconds()
    fleet.wake()
    while True:
        answers = await acknowledgements(fleet.db, generation)
        late = [f"{answer.process}:{answer.pid}" for answer in answers if not answer.acknowledged]
        if answers and not late:
            return answers
        if time.monotonic() >= deadline:
            log.warning("secrets_refresh_incomplete", processes=late)
            return answers
        await asyncio.sleep(POLL_SECONDS)


def _answer_of(each: StoredInstance, generation: int) -> Acknowledgement:
    standing = each.standing
    return Acknowledgement(
        str(each.instance),
        each.process,
        each.host,
        each.pid,
        each.release,
        standing.secrets_generation >= generation and not standing.failures,
        standing.secret_versions,
        standing.failures,
        standing.active_root.hex() if standing.active_root else None,
    )
