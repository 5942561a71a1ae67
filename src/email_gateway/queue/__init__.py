"""The worker's side of the queue: claims, their leases and phases, the rescue of orphans, the end of what is late."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claim, Claims, Phase
from email_gateway.observe import DOUBTS_HELD, EXPIRED, IN_DOUBT, RESCUED, SUSPECTS_DEAD, get_logger
from email_gateway.queue.composing import Composing
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.deliveries import FIRST_TENANT, RESCUE_BATCH, Turns
from email_gateway.store.group_commit import GroupCommit

log = get_logger(__name__)

LEASE = timedelta(seconds=20)  # with RESCUE_EVERY it keeps the promise of 30 s (contract C4)
RENEW_EVERY = LEASE / 3
RESCUE_EVERY = timedelta(seconds=5)
EXPIRE_EVERY = timedelta(seconds=1)
LIST_LANES_EVERY = timedelta(seconds=1)
BATCH = 200
POLL_EVERY = timedelta(milliseconds=60)  # NOTIFY takes a database-wide lock at commit
AFTER_OUTAGE = timedelta(seconds=1)
# A statement costs PostgreSQL as much as what it does to forty deliveries: with mail flowing each takes some.
CLAIMS_APART = timedelta(milliseconds=20)
PHASES_APART = timedelta(milliseconds=5)  # a conversation waits for it

# What to take now: given the room there is and the lanes in which something is queued.
Choose = Callable[[int, Iterable[str]], Turns]
Reached = tuple[Claims, Phase]


def take_all(room: int, lanes: Iterable[str]) -> Turns:
    """Take from every lane alike: the choice where nobody keeps a pace."""
    return Turns(dict.fromkeys(lanes, room))


class Queue:
    """Holds what this worker has claimed; `close` gives back what was not sent.

    `capacity` bounds the deliveries claimed and unfinished, whatever their number of messages;
    `choose` says which may be taken. A delivery is in doubt `max_doubts` times at most before it is held.
    """

    def __init__(
        self,
        db: Database,
        *,
        capacity: int,
        max_doubts: int,
        choose: Choose = take_all,
        lease_for: timedelta = LEASE,
    ) -> None:
        self._db = db
        self._capacity = capacity
        self._max_doubts = max_doubts
        self._choose = choose
        self._lease_for = lease_for
        self._held: dict[UUID, tuple[Claim, Phase]] = {}
        self._lanes: list[str] = [COMMON_LANE]
        self._after = FIRST_TENANT
        self._has_room = asyncio.Event()
        self._phases = GroupCommit[Reached, bool](
            self._commit_phases, weigh=lambda one: len(one[0]), max_weight=500, apart=PHASES_APART
        )
        self._is_stopping = asyncio.Event()
        self._composing = Composing()

    def stop(self) -> None:
        """Claim nothing more; `claims` ends."""
        self._is_stopping.set()
        self._has_room.set()

    async def claims(self) -> AsyncIterator[Claims]:
        """Yield due deliveries, those of one message together, until `stop`.

        Claims only what there is room for, and polls while the queue is empty. While the database
        is away nothing is claimed: what cannot be recorded is not sent.
        """
        next_claim = 0.0
        while not self._is_stopping.is_set():
            room = self._capacity - len(self._held)
            if room <= 0:
                self._has_room.clear()
                await self._has_room.wait()
                continue
            if (wait := next_claim - time.monotonic()) > 0:
                await self._pause(timedelta(seconds=wait))
                continue
            turns = self._choose(min(room, BATCH), dict.fromkeys((COMMON_LANE, *self._lanes)))
            next_claim = time.monotonic() + CLAIMS_APART.total_seconds()
            try:
                taken = await self._claim(turns)
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
                await self._pause(AFTER_OUTAGE)
                continue
            for claims in taken.claims:
                self._held.update({claim.token: (claim, Phase.CLAIMED) for claim in claims.each})
            for claims in taken.claims:
                yield claims
            if not taken.claims and not taken.diverted:
                await self._pause(POLL_EVERY)

    async def begin_composing(self, claims: Claims) -> None:
        """Wait until these may be composed, which ends with the phase `composed`; raises ClaimLost."""
        await self._composing.enter(claims)
        if claims.lane == SUSPECT_LANE:
            await self.reached(claims, Phase.COMPOSING)

    async def reached(self, claims: Claims, phase: Phase) -> float:
        """Record how far the attempt came; return the monotonic time until which it may go on.

        `dot_pending` is committed before this returns, and raises ClaimLost unless every claim is
        still held: then nothing may be sent. Earlier phases are written with the next renewal, but
        for a suspect's: who dies while it is composed has died of it, and that it was composed acquits it.
        """
        started = time.monotonic()
        self._held.update({claim.token: (claim, phase) for claim in claims.each})
        if phase is not Phase.COMPOSING:
            self._composing.leave(claims)  # the next one's commit comes after this one's, or is the same
        is_judged = claims.lane == SUSPECT_LANE and phase in (Phase.COMPOSING, Phase.COMPOSED)
        if (is_judged or phase is Phase.DOT_PENDING) and not await self._phases.submit((claims, phase)):
            raise ClaimLost("another worker holds this delivery")
        return started + 0.75 * self._lease_for.total_seconds()  # what the committed row has left at least

    def forget(self, claims: Claims) -> None:
        """Stop renewing these claims: their results are written, or they are lost."""
        self._composing.leave(claims)
        for claim in claims.each:
            self._held.pop(claim.token, None)
        self._has_room.set()

    async def give_back(self, claims: Claims, *, reason: str) -> None:
        """Return what is still held of claims that were not sent to its place, uncounted."""
        await deliveries.release(self._db, claims.each, reason=reason)
        self.forget(claims)

    async def close(self) -> None:
        """Give back what is still held and not yet past the dot, uncounted, for other workers."""
        unsent = [claim for claim, phase in self._held.values() if phase is not Phase.DOT_PENDING]
        self._held.clear()
        if unsent:
            await deliveries.release(self._db, unsent, reason="worker_stopped")

    async def keep(self) -> None:
        """Renew what is held and rescue what other workers lost, until cancelled."""
        next_renewal = next_rescue = 0.0
        while True:
            try:
                if (now := time.monotonic()) >= next_renewal:
                    await self._renew()
                    next_renewal = now + min(RENEW_EVERY, self._lease_for / 3).total_seconds()
                if (now := time.monotonic()) >= next_rescue:
                    await self._rescue()
                    next_rescue = now + min(RESCUE_EVERY, self._lease_for / 4).total_seconds()
                self._lanes = await deliveries.list_lanes(self._db)  # last: what was rescued may stand in a new one
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
            await asyncio.sleep(min(LIST_LANES_EVERY, self._lease_for / 3).total_seconds())

    async def expire(self) -> None:
        """End what waits and whose time runs out, also behind a hold, until cancelled."""
        while True:
            try:
                if ended := await deliveries.expire(self._db):
                    EXPIRED.inc(ended)
                    log.warning("deliveries_expired", ended=ended)
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
            await asyncio.sleep(EXPIRE_EVERY.total_seconds())

    async def _claim(self, turns: Turns) -> deliveries.Taken:
        if not turns.quotas:
            return deliveries.Taken([], ())
        taken = await deliveries.claim(self._db, replace(turns, after=self._after), lease_for=self._lease_for)
        tenants = {claims.tenant_id for claims in taken.claims if claims.lane == COMMON_LANE}
        # With more tenants than room the next claim goes on behind the last of them.
        self._after = max(tenants) if len(tenants) >= turns.quotas.get(COMMON_LANE, 1) else FIRST_TENANT
        self._lanes = list(dict.fromkeys((*self._lanes, *taken.diverted)))
        return taken

    async def _renew(self) -> None:
        # Claims that were lost stay here until their attempt ends: `reached` refuses them the dot.
        if held := list(self._held.values()):
            claims, phases = [claim for claim, _ in held], [phase for _, phase in held]
            await deliveries.renew(self._db, claims, phases, lease_for=self._lease_for)

    async def _rescue(self) -> None:
        rescued = RESCUE_BATCH
        while rescued == RESCUE_BATCH:  # all that a dead worker held, whatever its number
            found = await deliveries.rescue(self._db, max_doubts=self._max_doubts, lease_for=self._lease_for)
            rescued = found.rescued
            if not rescued:
                return
            RESCUED.inc(rescued)
            IN_DOUBT.inc(found.in_doubt)
            DOUBTS_HELD.inc(found.doubts_held)
            SUSPECTS_DEAD.inc(found.dead - found.doubts_held)
            say = log.error if found.dead else log.warning
            say("deliveries_rescued", rescued=rescued, in_doubt=found.in_doubt, dead=found.dead)

    async def _commit_phases(self, group: list[Reached]) -> list[bool]:
        held = [claim for claims, _ in group for claim in claims.each]
        phases = [phase for claims, phase in group for _ in claims.each]
        still_held = await deliveries.commit_phases(self._db, held, phases, lease_for=self._lease_for)
        return [all(claim.token in still_held for claim in claims.each) for claims, _ in group]

    async def _pause(self, duration: timedelta) -> None:
        # Not `wait_for`: in Python 3.11 it swallows a cancellation that meets what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration.total_seconds()):
                await self._is_stopping.wait()
