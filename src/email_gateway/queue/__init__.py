"""The worker's side of the queue: claims, their leases and phases, and the rescue of orphans."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claim, Claims, Phase
from email_gateway.observe import DOUBTS_HELD, IN_DOUBT, RESCUED, SUSPECTS_DEAD, get_logger
from email_gateway.queue.composing import Composing
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.deliveries import FIRST_TENANT, RESCUE_BATCH, Turns
from email_gateway.store.group_commit import GroupCommit

log = get_logger(__name__)

LEASE = timedelta(seconds=20)  # with RESCUE_EVERY it keeps the promise of 30 s (contract C4)
RENEW_EVERY = LEASE / 3
RESCUE_EVERY = timedelta(seconds=5)
LIST_LANES_EVERY = timedelta(seconds=1)
BATCH = 200
POLL_EVERY = timedelta(milliseconds=60)  # NOTIFY takes a database-wide lock at commit
AFTER_OUTAGE = timedelta(seconds=1)

# What to take now: given the room there is and the lanes in which something is queued.
Choose = Callable[[int, Iterable[str]], Turns]


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
        self._phases = GroupCommit[Claims, bool](self._commit_phase, weigh=len, max_weight=500)
        self._is_stopping = asyncio.Event()
        self.composing = Composing()

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
            turns = self._choose(min(room, BATCH), self._lanes_to_take())
            try:
                taken = await self._claim(turns)
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
                await self._pause(AFTER_OUTAGE)
                continue
            for claims in taken.claims:
                self._held.update({claim.token: (claim, Phase.CLAIMED) for claim in claims.each})
                self.composing.announce(claims)
            for claims in taken.claims:
                yield claims
            if not taken.claims and not taken.diverted:
                await self._pause(POLL_EVERY)

    async def reached(self, claims: Claims, phase: Phase) -> float:
        """Record how far the attempt came; return the monotonic time until which it may go on.

        `dot_pending` is committed before this returns, and raises ClaimLost unless every claim is
        still held: then nothing may be sent. Earlier phases are written with the next renewal, but
        for a suspect's: that it was composed acquits it, whatever happens next.
        """
        started = time.monotonic()
        self._held.update({claim.token: (claim, phase) for claim in claims.each})
        if phase is Phase.COMPOSED and claims.lane == SUSPECT_LANE:
            await deliveries.renew(self._db, claims.each, [phase] * len(claims), lease_for=self._lease_for)
        self.composing.leave(claims)
        if phase is Phase.DOT_PENDING and not await self._phases.submit(claims):
            raise ClaimLost("another worker holds this delivery")
        return started + self._lease_for.total_seconds()

    def forget(self, claims: Claims) -> None:
        """Stop renewing these claims: their results are written, or they are lost."""
        self.composing.leave(claims)
        for claim in claims.each:
            self._held.pop(claim.token, None)
        self._has_room.set()

    async def give_back(self, claims: Claims) -> None:
        """Return claims whose turn does not come soon to their places, uncounted."""
        await deliveries.release(self._db, claims.each, reason="not_yet")
        self.forget(claims)

    async def close(self) -> None:
        """Give back what is still held and not yet past the dot, uncounted, for other workers."""
        unsent = [claim for claim, phase in self._held.values() if phase is not Phase.DOT_PENDING]
        self._held.clear()
        if unsent:
            await deliveries.release(self._db, unsent, reason="worker_stopped")

    async def keep(self) -> None:
        """Renew what is held and rescue what other workers lost, until cancelled.

        While the database was away nobody could renew, so that leases say nothing about who lives:
        whoever noticed leaves everybody the time of a lease to renew, and to write what was heard.
        """
        next_rescue = heard_at = time.monotonic()
        next_renewal = 0.0
        while True:
            try:
                self._lanes = await deliveries.list_lanes(self._db)
                if time.monotonic() >= next_renewal:
                    next_renewal = time.monotonic() + min(RENEW_EVERY, self._lease_for / 3).total_seconds()
                    await self._renew()
                now = time.monotonic()
                if now - heard_at > self._lease_for.total_seconds() / 2:
                    next_rescue = now + self._lease_for.total_seconds()
                heard_at = now
                if now >= next_rescue:
                    await self._rescue()
                    next_rescue = now + RESCUE_EVERY.total_seconds()
            except DatabaseUnavailable as error:
                log.warning("queue_unavailable", error=error)
            await asyncio.sleep(min(LIST_LANES_EVERY, self._lease_for / 3).total_seconds())

    def _lanes_to_take(self) -> list[str]:
        lanes = dict.fromkeys((COMMON_LANE, *self._lanes))
        if self.composing.has_suspect:
            lanes.pop(SUSPECT_LANE, None)
        return list(lanes)

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
            found = await deliveries.rescue(self._db, max_doubts=self._max_doubts)
            rescued = found.rescued
            if not rescued:
                return
            RESCUED.inc(rescued)
            IN_DOUBT.inc(found.in_doubt)
            DOUBTS_HELD.inc(found.doubts_held)
            SUSPECTS_DEAD.inc(found.dead - found.doubts_held)
            say = log.error if found.dead else log.warning
            say("deliveries_rescued", rescued=rescued, in_doubt=found.in_doubt, dead=found.dead)

    async def _commit_phase(self, group: list[Claims]) -> list[bool]:
        held = [claim for claims in group for claim in claims.each]
        still_held = await deliveries.commit_dot_pending(self._db, held, lease_for=self._lease_for)
        return [all(claim.token in still_held for claim in claims.each) for claims in group]

    async def _pause(self, duration: timedelta) -> None:
        try:
            await asyncio.wait_for(self._is_stopping.wait(), duration.total_seconds())
        except TimeoutError:
            return
