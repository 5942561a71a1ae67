"""Facts about deliveries: what an attempt came to becomes a state and an event, in one transaction."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import count
from uuid import UUID

from uuid_utils.compat import uuid7

from email_gateway.errors import DatabaseUnavailable, KeyUnavailable
from email_gateway.events.schedule import delay_after
from email_gateway.mail.deliveries import SIMULATED, Claims, Outcome, State, Verdict
from email_gateway.observe import DOUBTS_HELD, IN_DOUBT, LATE_RESULTS, OUTCOMES, UNWRITTEN, get_logger
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Result
from email_gateway.store.group_commit import GroupCommit
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

MAX_GROUP = 500
APART = timedelta(milliseconds=10)  # a worker that is killed within it leaves doubts, so not much longer
FIRST_PAUSE = timedelta(seconds=0.1)
LONGEST_PAUSE = timedelta(seconds=2)

# The state of each result that counted, by event_id; None for one that had been written before.
Written = Mapping[UUID, State | None]


class Recorder:
    """Writes the outcomes of attempts; concurrent ones share a COMMIT.

    What was heard is kept until it is written, however long the database is away: a server's 250 that
    is thrown away is a mail sent twice.
    """

    def __init__(self, db: Database, keyring: Keyring, *, max_doubts: int) -> None:
        self._db = db
        self._keyring = keyring
        self._max_doubts = max_doubts
        self._group = GroupCommit[list[Result], Written](self._commit, weigh=len, max_weight=MAX_GROUP, apart=APART)

    async def record(self, claims: Claims, outcomes: Sequence[Outcome]) -> None:
        """Store what an attempt came to, for each of its recipients; returns once it is written.

        A result counts as long as nobody has claimed the delivery again; then it is kept as a `late`
        event and changes no state. Writing the same result twice changes nothing, so it is
        repeated when nobody knows whether a COMMIT went through.
        """
        # What was deferred together is tried together: one conversation, not ten.
        spread: dict[int, timedelta] = {}
        results = [await self._result(claims, outcome, spread) for outcome in outcomes]
        written = await self._write(claims, results)
        if late := len(results) - len(written):
            LATE_RESULTS.inc(late)
            log.warning("late_result", message_id=str(claims.message_id), count=late)
        for outcome, result in zip(outcomes, results, strict=True):
            if outcome.reason == SIMULATED:  # no operator is woken for what somebody tried out
                continue
            OUTCOMES.labels(verdict=outcome.verdict).inc()
            if outcome.verdict is Verdict.IN_DOUBT:
                IN_DOUBT.inc()
                if written.get(result.event_id) is State.DEAD:
                    DOUBTS_HELD.inc()
                    log.error("doubt_held", message_id=str(claims.message_id), recipient=outcome.claim.recipient)

    async def _write(self, claims: Claims, results: list[Result]) -> Written:
        with UNWRITTEN.track_inprogress():
            for attempt in count():
                try:
                    return await self._group.submit(results)
                except DatabaseUnavailable as error:
                    if attempt == 0:
                        log.warning("result_kept", message_id=str(claims.message_id), error=error)
                    await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 5)).total_seconds())
        raise AssertionError("count() does not end")

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._group.close()

    async def _result(self, claims: Claims, outcome: Outcome, spread: dict[int, timedelta]) -> Result:
        state = next_state(claims, outcome)
        delay = None
        if outcome.verdict is Verdict.HELD:
            delay = outcome.wait
        elif state is State.QUEUED:
            attempt = outcome.claim.attempt
            delay = spread.setdefault(attempt, delay_after(attempt, claims.expires_at - claims.created_at))
        event_id = uuid7()
        return Result(
            claims=claims,
            claim=outcome.claim,
            state=state,
            kind=EVENT_OF[outcome.verdict],
            event_id=event_id,
            delay=delay,
            stage=outcome.stage,
            reason=outcome.reason,
            code=outcome.code,
            enhanced=outcome.enhanced,
            sealed_reply=await self._seal_reply(claims.tenant_id, event_id, outcome.reply),
        )

    async def _seal_reply(self, tenant_id: UUID, event_id: UUID, reply: str | None) -> bytes | None:
        if not reply:
            return None
        try:
            keys = await self._keyring.tenant(tenant_id)
        except (KeyUnavailable, DatabaseUnavailable):
            # The state matters more than the server's words, which may be written under seal only.
            return None
        return keys.seal("event.reply", event_id, reply.encode())

    async def _commit(self, group: list[list[Result]]) -> list[Written]:
        everything = [result for results in group for result in results]
        written = await deliveries.finish(self._db, everything, max_doubts=self._max_doubts)
        return [
            {result.event_id: written[result.event_id] for result in results if result.event_id in written}
            for results in group
        ]


EVENT_OF = {
    Verdict.DELIVERED: "delivered",
    Verdict.KEPT: "kept",
    Verdict.COMPLAINED: "complained",
    Verdict.BOUNCED: "bounced",
    Verdict.DEFERRED: "deferred",
    Verdict.HELD: "held",
    Verdict.IN_DOUBT: "in_doubt",
    Verdict.SUPPRESSED: "suppressed",
    Verdict.UNREADABLE: "dead",
}


def next_state(claims: Claims, outcome: Outcome) -> State:
    """Decide what a delivery becomes.

    A doubt is settled by the message's policy (contract C3): `resend` risks a duplicate, a bounded
    number of times, which the store counts; `hold` leaves it to an operator.
    """
    match outcome.verdict:
        case Verdict.DELIVERED | Verdict.COMPLAINED:
            return State.DELIVERED
        case Verdict.KEPT:
            return State.KEPT
        case Verdict.BOUNCED:
            return State.BOUNCED
        case Verdict.SUPPRESSED:
            return State.SUPPRESSED
        case Verdict.UNREADABLE:
            return State.DEAD
        case Verdict.IN_DOUBT if claims.on_doubt == "hold":
            return State.DEAD
        case _:
            return State.QUEUED
