"""The worker's side of the queue: claims, their leases and phases, and the rescue of orphans."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import Claim, Claims, Phase
from email_gateway.observe import IN_DOUBT, RESCUED, get_logger
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.group_commit import GroupCommit

log = get_logger(__name__)

LEASE = timedelta(seconds=20)  # with RESCUE_EVERY it keeps the promise of 30 s (contract C4)
RENEW_EVERY = LEASE / 3
RESCUE_EVERY = timedelta(seconds=5)
BATCH = 200
POLL_EVERY = timedelta(milliseconds=60)  # NOTIFY takes a database-wide lock at commit
AFTER_OUTAGE = timedelta(seconds=1)


class Queue:
    """Holds what this worker has claimed; `close` gives back what was not sent.

    `capacity` bounds the deliveries claimed and unfinished, whatever their number of messages.
    """

    def __init__(self, db: Database, *, capacity: int, lease_for: timedelta = LEASE) -> None:
        self._db = db
        self._capacity = capacity
        self._lease_for = lease_for
        self._held: dict[UUID, tuple[Claim, Phase]] = {}
        self._has_room = asyncio.Event()
        self._phases = GroupCommit[Claims, bool](self._commit_phase, weigh=len, max_weight=500)
        self._is_stopping = asyncio.Event()

    def stop(self) -> None:
        """Claim nothing more; `claims` ends."""
        self._is_stopping.set()
        self._has_room.set()

    async def claims(self) -> AsyncIterator[Claims]:
        """Yield due deliveries, those of one message together, until `stop`.

        Claims only what there is room for, and polls while the queue is empty. While the database
        is away nothing is claimed: what cannot be recorded is not sent.
        """
        while not self._is_stopping.is_set():
            room = self._capacity - len(self._held)
            if room <= 0:
                self._has_room.clear()
                await self._has_room.wait()
                continue
            try:
                claimed = await deliveries.claim(self._db, limit=min(room, BATCH), lease_for=self._lease_for)
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
                await self._pause(AFTER_OUTAGE)
                continue
            for claims in claimed:
                self._held.update({claim.token: (claim, Phase.CLAIMED) for claim in claims.each})
            for claims in claimed:
                yield claims
            if not claimed:
                await self._pause(POLL_EVERY)

    async def reached(self, claims: Claims, phase: Phase) -> float:
        """Record how far the attempt came; return the monotonic time until which it may go on.

        `dot_pending` is committed before this returns, and raises ClaimLost unless every claim is
        still held: then nothing may be sent. Earlier phases are written with the next renewal.
        """
        started = time.monotonic()
        self._held.update({claim.token: (claim, phase) for claim in claims.each})
        if phase is Phase.DOT_PENDING and not await self._phases.submit(claims):
            raise ClaimLost("another worker holds this delivery")
        return started + self._lease_for.total_seconds()

    def forget(self, claims: Claims) -> None:
        """Stop renewing these claims: their results are written, or they are lost."""
        for claim in claims.each:
            self._held.pop(claim.token, None)
        self._has_room.set()

    async def close(self) -> None:
        """Give back what is still held and not yet past the dot, uncounted, for other workers."""
        unsent = [claim for claim, phase in self._held.values() if phase is not Phase.DOT_PENDING]
        self._held.clear()
        if unsent:
            await deliveries.release(self._db, unsent)

    async def keep(self) -> None:
        """Renew what is held and rescue what other workers lost, until cancelled."""
        next_rescue = time.monotonic()
        while True:
            try:
                await self._renew()
                if time.monotonic() >= next_rescue:
                    await self._rescue()
                    next_rescue = time.monotonic() + RESCUE_EVERY.total_seconds()
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
            await asyncio.sleep(min(RENEW_EVERY, RESCUE_EVERY, self._lease_for / 3).total_seconds())

    async def _renew(self) -> None:
        # Claims that were lost stay here until their attempt ends: `reached` refuses them the dot.
        if held := list(self._held.values()):
            claims, phases = [claim for claim, _ in held], [phase for _, phase in held]
            await deliveries.renew(self._db, claims, phases, lease_for=self._lease_for)

    async def _rescue(self) -> None:
        rescued = await deliveries.rescue(self._db)
        if rescued.rescued:
            RESCUED.inc(rescued.rescued)
            IN_DOUBT.inc(rescued.in_doubt)
            log.warning("deliveries_rescued", rescued=rescued.rescued, in_doubt=rescued.in_doubt, dead=rescued.dead)

    async def _commit_phase(self, group: list[Claims]) -> list[bool]:
        held = [claim for claims in group for claim in claims.each]
        still_held = await deliveries.commit_dot_pending(self._db, held, lease_for=self._lease_for)
        return [all(claim.token in still_held for claim in claims.each) for claims in group]

    async def _pause(self, duration: timedelta) -> None:
        try:
            await asyncio.wait_for(self._is_stopping.wait(), duration.total_seconds())
        except TimeoutError:
            return
