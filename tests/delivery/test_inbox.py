"""The development inbox: mail is kept sealed, and the addresses that answer like real trouble do."""

import uuid
from dataclasses import replace

import pytest

from email_gateway.delivery.inbox import InboxTransport
from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.errors import ClaimLost
from email_gateway.mail.deliveries import Phase, Verdict
from email_gateway.store.database import Database
from email_gateway.store.inbox import get_inbox_mail, list_inbox_mails
from email_gateway.vault.keyring import Keyring
from tests.delivery.attempting import RAW, Recorder, claims_for

pytestmark = pytest.mark.anyio


def mail_to(tenant_id: uuid.UUID, *recipients: str, raw: bytes = RAW) -> OutgoingMail:
    claims = replace(claims_for(len(recipients)), tenant_id=tenant_id)
    return OutgoingMail(claims, "billing@acme.example", recipients, raw)


@pytest.mark.parametrize("raw", [RAW, RAW + b"x" * 100_000 + b"\r\n"])
async def test_a_mail_is_kept_sealed_under_its_own_id(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID, raw: bytes
) -> None:
    recorder = Recorder()
    mail = mail_to(tenant_id, "maria@example.net", "joao@example.net", raw=raw)
    outcomes = await InboxTransport(db, keyring).send(mail, recorder)
    assert [(o.verdict, o.stage, o.code) for o in outcomes] == [(Verdict.DELIVERED, "dot", 250)] * 2
    assert recorder.phases == [(Phase.COMPOSED, 2), (Phase.DOT_PENDING, 2)]
    (entry,) = await list_inbox_mails(db, tenant_id, limit=10)
    kept = await get_inbox_mail(db, tenant_id, entry.inbox_id)
    assert (kept.message_id, kept.recipients, kept.size) == (mail.claims.message_id, (0, 1), len(raw))
    assert await keyring.open(tenant_id, "inbox.raw", kept.inbox_id, kept.sealed_raw) == raw
    assert b"Invoice" not in kept.sealed_raw


async def test_where_people_expect_their_mail_every_delivery_is_kept_and_none_delivered(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    mail = mail_to(tenant_id, "maria@example.net", "bounce@example.net", "deferred+x@example.org")
    outcomes = await InboxTransport(db, keyring, plays_servers=False).send(mail, Recorder())
    assert [(o.verdict, o.stage, o.reason, o.code) for o in outcomes] == [(Verdict.KEPT, "dot", "not_sent", None)] * 3
    assert [o.claim for o in outcomes] == list(mail.claims.each)
    (entry,) = await list_inbox_mails(db, tenant_id, limit=10)
    assert entry.recipients == (0, 1, 2)


async def test_some_addresses_bounce_or_defer_at_any_domain_and_label(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    mail = mail_to(
        tenant_id,
        "maria@example.net",
        "bounce@example.net",
        "bounced+signup@resend.dev",
        "Defer@example.net",
        "deferred+x@example.org",
        "bouncer@example.net",
        "delivered@resend.dev",
    )
    recorder = Recorder()
    outcomes = await InboxTransport(db, keyring).send(mail, recorder)
    assert [(o.verdict, o.code, o.enhanced) for o in outcomes] == [
        (Verdict.DELIVERED, 250, "2.0.0"),
        (Verdict.BOUNCED, 550, "5.1.1"),
        (Verdict.BOUNCED, 550, "5.1.1"),
        (Verdict.DEFERRED, 450, "4.2.1"),
        (Verdict.DEFERRED, 450, "4.2.1"),
        (Verdict.DELIVERED, 250, "2.0.0"),
        (Verdict.DELIVERED, 250, "2.0.0"),
    ]
    assert [o.claim for o in outcomes] == list(mail.claims.each)
    assert recorder.phases == [(Phase.COMPOSED, 7), (Phase.DOT_PENDING, 3)]
    (entry,) = await list_inbox_mails(db, tenant_id, limit=10)
    assert entry.recipients == (0, 5, 6)


async def test_a_mail_that_everyone_refuses_is_not_kept(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
    recorder = Recorder()
    (outcome,) = await InboxTransport(db, keyring).send(mail_to(tenant_id, "bounce@example.net"), recorder)
    assert outcome.verdict is Verdict.BOUNCED
    assert not recorder.phases
    assert not await list_inbox_mails(db, tenant_id, limit=10)


async def test_nothing_is_kept_when_the_claim_is_lost_or_has_run_out(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    transport = InboxTransport(db, keyring)
    with pytest.raises(ClaimLost):
        await transport.send(mail_to(tenant_id, "maria@example.net"), Recorder(error=ClaimLost("lost")))
    (outcome,) = await transport.send(mail_to(tenant_id, "maria@example.net"), Recorder(lease=-1))
    assert (outcome.verdict, outcome.reason) == (Verdict.HELD, "lease_ended")
    assert not await list_inbox_mails(db, tenant_id, limit=10)


async def test_a_database_that_fails_while_it_keeps_a_mail_leaves_it_in_doubt(
    db: Database, keyring: Keyring, tenant_id: uuid.UUID
) -> None:
    await keyring.tenant(tenant_id)
    await db.close()
    (outcome,) = await InboxTransport(db, keyring).send(mail_to(tenant_id, "maria@example.net"), Recorder())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.IN_DOUBT, "dot", "database_unavailable")
