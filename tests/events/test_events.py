"""Outcomes become states and facts: each verdict, the server's words under seal, the doubt's policy."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.events import Recorder
from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claims, Outcome, Verdict
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.store.messages import get_message, list_events
from email_gateway.vault.keyring import Keyring
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

REPLY = "550 5.1.1 <ana@example.net>: no such user"


async def claimed(db: Database, tenant_id: uuid.UUID, **changes: object) -> Claims:
    await Acceptor(db).accept(new_request(tenant_id, new_message(**changes)))
    taken = await deliveries.claim(db, Turns({COMMON_LANE: 10}), lease_for=timedelta(seconds=20))
    return taken.claims[0]


def outcomes(claims: Claims, verdict: Verdict, reply: str | None = REPLY) -> list[Outcome]:
    return [
        Outcome(claim, verdict, "dot", "some_reason", code=550, enhanced="5.1.1", reply=reply) for claim in claims.each
    ]


@pytest.mark.parametrize(
    ("verdict", "on_doubt", "state", "kinds"),
    [
        (Verdict.DELIVERED, "resend", "delivered", ["delivered"]),
        (Verdict.KEPT, "resend", "kept", ["kept"]),
        (Verdict.BOUNCED, "resend", "bounced", ["bounced"]),
        (Verdict.DEFERRED, "resend", "queued", ["deferred"]),
        (Verdict.IN_DOUBT, "resend", "queued", ["in_doubt"]),
        (Verdict.IN_DOUBT, "hold", "dead", ["in_doubt", "dead"]),
        (Verdict.UNREADABLE, "resend", "dead", ["dead"]),
    ],
)
async def test_each_verdict_has_its_state_and_its_fact(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, verdict: Verdict, on_doubt: str, state: str, kinds: list[str]
) -> None:
    claims = await claimed(db, tenant_id, on_doubt=on_doubt)
    await Recorder(db, keyring, max_doubts=2).record(claims, outcomes(claims, verdict))
    stored = await get_message(db, tenant_id, claims.message_id)
    (delivery,) = stored.deliveries
    # A dead letter says why it is one, whichever way the doubt arose.
    reason = "in_doubt" if kinds == ["in_doubt", "dead"] else "some_reason"
    assert (delivery.state, delivery.reason, delivery.code) == (state, reason, 550)
    assert (delivery.next_attempt_at is not None) == (state == "queued")
    events = await list_events(db, tenant_id, claims.message_id)
    assert [event.kind for event in events[2:]] == kinds


async def test_the_servers_words_are_kept_under_seal_only(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    claims = await claimed(db, tenant_id)
    await Recorder(db, keyring, max_doubts=2).record(claims, outcomes(claims, Verdict.BOUNCED))
    event = (await list_events(db, tenant_id, claims.message_id))[-1]
    assert event.sealed_reply is not None
    assert b"ana" not in event.sealed_reply
    assert await keyring.open(tenant_id, "event.reply", event.event_id, event.sealed_reply) == REPLY.encode()


async def test_recipients_of_one_message_may_come_to_different_things(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    claims = await claimed(db, tenant_id, domains=("a.example", "b.example"))
    first, second = outcomes(claims, Verdict.DELIVERED)[0], outcomes(claims, Verdict.BOUNCED)[1]
    await Recorder(db, keyring, max_doubts=2).record(claims, [first, second])
    stored = await get_message(db, tenant_id, claims.message_id)
    assert [delivery.state for delivery in stored.deliveries] == ["delivered", "bounced"]


async def test_a_late_result_changes_no_state(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    slow = await claimed(db, tenant_id)
    await db.execute("UPDATE delivery SET claim_expires_at = now() - interval '1 second'")
    await deliveries.rescue(db, max_doubts=2, lease_for=timedelta(0))
    again = await deliveries.claim(db, Turns({SUSPECT_LANE: 1}), lease_for=timedelta(seconds=20))
    assert again.claims, "somebody else has claimed it meanwhile"
    await Recorder(db, keyring, max_doubts=2).record(slow, outcomes(slow, Verdict.BOUNCED, reply=None))
    stored = await get_message(db, tenant_id, slow.message_id)
    assert stored.deliveries[0].state == "sending"
    assert (await list_events(db, tenant_id, slow.message_id))[-1].kind == "late"
