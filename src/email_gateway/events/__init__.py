"""Facts about deliveries: what an attempt came to becomes a state and an event, in one transaction."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from email_gateway.errors import KeyUnavailable
from email_gateway.events.schedule import delay_after
from email_gateway.mail.deliveries import Claims, Outcome, State, Verdict
from email_gateway.observe import IN_DOUBT, LATE_RESULTS, OUTCOMES, get_logger
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Result
from email_gateway.store.group_commit import GroupCommit
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

MAX_GROUP = 500


class Recorder:
    """Writes the outcomes of attempts; concurrent ones share a COMMIT."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._group = GroupCommit[list[Result], int](self._commit, weigh=len, max_weight=MAX_GROUP)

    async def record(self, claims: Claims, outcomes: Sequence[Outcome]) -> None:
        """Store what an attempt came to, for each of its recipients.

        A result whose claim was lost meanwhile is kept as a `late` event and changes no state.
        """
        results = [await self._result(claims, outcome) for outcome in outcomes]
        written = await self._group.submit(results)
        if late := len(results) - written:
            LATE_RESULTS.inc(late)
            log.warning("late_result", message_id=str(claims.message_id), count=late)
        for outcome in outcomes:
            OUTCOMES.labels(verdict=outcome.verdict).inc()
            if outcome.verdict is Verdict.IN_DOUBT:
                IN_DOUBT.inc()

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._group.close()

    async def _result(self, claims: Claims, outcome: Outcome) -> Result:
        state, delay = next_state(claims, outcome)
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
        except KeyUnavailable:
            # The state matters more than the server's words, which may be written under seal only.
            return None
        return keys.seal("event.reply", event_id, reply.encode())

    async def _commit(self, group: list[list[Result]]) -> list[int]:
        written = await deliveries.finish(self._db, [result for results in group for result in results])
        return [sum(result.event_id in written for result in results) for results in group]


EVENT_OF = {
    Verdict.DELIVERED: "delivered",
    Verdict.BOUNCED: "bounced",
    Verdict.DEFERRED: "deferred",
    Verdict.HELD: "held",
    Verdict.IN_DOUBT: "in_doubt",
    Verdict.UNREADABLE: "dead",
}


def next_state(claims: Claims, outcome: Outcome) -> tuple[State, timedelta | None]:
    """Decide what a delivery becomes, and when it is tried again.

    A doubt is settled by the message's policy (contract C3): `resend` risks one duplicate, `hold`
    leaves it to an operator.
    """
    match outcome.verdict:
        case Verdict.DELIVERED:
            return State.DELIVERED, None
        case Verdict.BOUNCED:
            return State.BOUNCED, None
        case Verdict.UNREADABLE:
            return State.DEAD, None
        case Verdict.IN_DOUBT if claims.on_doubt == "hold":
            return State.DEAD, None
        case _:
            return State.QUEUED, delay_after(outcome.claim.attempt)
