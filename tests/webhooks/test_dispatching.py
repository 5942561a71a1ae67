"""Events reach endpoints: signed, in order, again after a failure, and none waits for another endpoint."""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import resend

from email_gateway.mail.webhooks import new_secret
from email_gateway.store.database import Database
from email_gateway.store.webhook_deliveries import add_test, claim_webhooks, replay, tidy_webhooks
from email_gateway.store.webhooks import delete_webhook, get_webhook, rotate_secret, update_webhook
from email_gateway.webhooks import GIVE_UP_AFTER, Poster
from tests.marks import MARK
from tests.webhooks.conftest import LOOPBACK, Hooked, dispatching
from tests.webhooks.receivers import OK, Receiver, hang, receiving, status

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


async def test_what_happens_to_a_mail_is_sent_signed_and_once(hooked: Hooked, receiver: Receiver) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    message_id = await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        await receiver.until(1)
        for kind in ("sending", "deferred", "delivered"):
            await hooked.happen(message_id, kind)
        await receiver.until(3)
        rows = await hooked.until_done(webhook_id)
    assert receiver.types == ["email.sent", "email.delivery_delayed", "email.delivered"]
    assert [(row["state"], row["attempts"], row["result"], row["status"]) for row in rows] == [
        ("delivered", 1, "delivered", 200)
    ] * 3
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 3
    for one in receiver.received:
        event = one.verify(hooked.secrets[webhook_id])
        assert event["data"]["email_id"] == str(message_id)
        assert MARK not in one.body.decode()
        options: resend.VerifyWebhookOptions = {
            "payload": one.body.decode(),
            "headers": {name: one.headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")},  # type: ignore[typeddict-item]
            "webhook_secret": hooked.secrets[webhook_id],
        }
        assert resend.Webhooks.verify(options)["type"] == event["type"]


async def test_only_what_a_webhook_is_for_is_sent_and_only_to_its_tenant(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    other = uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    chosen = await hooked.add_webhook(receiver, "email.bounced", "email.failed")
    others = await hooked.add_webhook(receiver, tenant_id=other)
    disabled = await hooked.add_webhook(receiver)
    await update_webhook(db, hooked.tenant_id, disabled, status="disabled")
    message_id = await hooked.accept()
    for kind in ("delivered", "bounced", "dead", "expired", "sending", "held"):
        await hooked.happen(message_id, kind)
    assert [row["kind"] for row in await hooked.rows(chosen)] == ["bounced", "dead", "expired"]
    assert await hooked.rows(others) == await hooked.rows(disabled) == []


async def test_an_event_that_is_rolled_back_is_not_sent(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    add = "INSERT INTO event (tenant_id, message_id, kind) VALUES ($1, $2, 'delivered')"
    with suppress(ZeroDivisionError):
        async with db.transaction() as transaction:
            await transaction.execute(add, hooked.tenant_id, uuid4())
            raise ZeroDivisionError
    assert await hooked.rows(webhook_id) == []


async def test_sender_recipients_subject_and_reply_are_sent_where_the_webhook_asks(
    hooked: Hooked, receiver: Receiver
) -> None:
    webhook_id = await hooked.add_webhook(receiver, include_personal=True)
    message_id = await hooked.accept(html="x" * 200_000)  # of a large one the summary is read
    event_id, keys = uuid4(), await hooked.keyring.tenant(hooked.tenant_id)
    reply = keys.seal("event.reply", event_id, f"<{MARK}-1@example.net> unknown".encode())
    await hooked.happen(message_id, "bounced", event_id=event_id, code=550, enhanced="5.1.1", sealed_reply=reply)
    async with dispatching(hooked.db, hooked.keyring):
        await receiver.until(2)
    sent, bounced = (one.verify(hooked.secrets[webhook_id])["data"] for one in receiver.received)
    assert (sent["from"], sent["to"]) == ("billing@acme.example", [f"{MARK}-1@example.net"])
    assert sent["subject"] == f"Invoice 1 {MARK}"
    assert bounced["bounce"]["message"] == f"550 5.1.1 <{MARK}-1@example.net> unknown"
    assert not {"52998224725", "529.982.247-25"} & set(re.findall(r"[\d.-]+", str(sent)))  # the tax id never


async def test_what_an_answer_says_is_kept_sealed(hooked: Hooked, receiver: Receiver) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    receiver.answer = status(200)
    await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        (row,) = await hooked.until_done(webhook_id)
    opened = await hooked.keyring.open(
        hooked.tenant_id, "webhook_delivery.answer", row["delivery_id"], row["sealed_answer"]
    )
    assert opened == b"said"


async def test_what_failed_is_sent_again_and_an_endpoint_that_fails_is_asked_with_one_at_a_time(
    hooked: Hooked, receiver: Receiver
) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    receiver.answer = status(500)
    for _ in range(30):
        await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        async with asyncio.timeout(20):
            while not (await hooked.standing(webhook_id))["failures"]:
                await hooked.db.execute("SELECT pg_sleep(0.01)")
        begun = len(receiver.received)
        assert 3 <= begun <= 13  # those under way when the third had failed; the rest waits
        standing = await hooked.standing(webhook_id)
        assert standing["next_try_at"] > datetime.now(UTC)
        assert standing["failing_since"] is not None
        await hooked.make_due()
        await receiver.until(begun + 1)
        async with asyncio.timeout(20):
            while (await hooked.standing(webhook_id))["failures"] != 2:
                await hooked.db.execute("SELECT pg_sleep(0.01)")
        assert len(receiver.received) == begun + 1
        receiver.answer = OK
        await hooked.make_due()
        await receiver.until(begun + 1 + 30)
        rows = await hooked.until_done(webhook_id)
    assert {row["state"] for row in rows} == {"delivered"}
    assert (await hooked.standing(webhook_id))["failures"] == 0
    ids = [one.headers["webhook-id"] for one in receiver.received]
    assert len(set(ids)) == 30  # what comes again has its first id


async def test_what_is_about_one_message_comes_in_order_also_after_a_failure(
    hooked: Hooked, receiver: Receiver
) -> None:
    await hooked.add_webhook(receiver)
    message_id = await hooked.accept()
    for kind in ("deferred", "deferred", "delivered"):
        await hooked.happen(message_id, kind)
    receiver.answers = [status(503), OK, status(503)]
    async with dispatching(hooked.db, hooked.keyring):
        await hooked.hurry(receiver, 6)
    assert receiver.types == [
        "email.sent", "email.sent", "email.delivery_delayed", "email.delivery_delayed", "email.delivery_delayed", "email.delivered"
    ]  # fmt: skip
    moments = [one.event["created_at"] for one in receiver.received]
    assert moments == sorted(moments)


async def test_an_endpoint_is_not_taken_for_what_must_wait_behind_another_event(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    await hooked.add_webhook(receiver)
    message_id = await hooked.accept()
    await hooked.happen(message_id, "delivered")
    later = "UPDATE webhook_delivery SET next_attempt_at = now() + interval '1 hour' WHERE kind = 'accepted'"
    await db.execute(later)
    assert await claim_webhooks(db, limit=10, lease_for=timedelta(minutes=1)) == []
    await hooked.accept()  # what is about another message does not wait
    assert len(await claim_webhooks(db, limit=10, lease_for=timedelta(minutes=1))) == 1


async def test_an_endpoint_that_hangs_costs_another_nothing(hooked: Hooked, receiver: Receiver) -> None:
    async with receiving() as hanging:
        hanging.behave = hang
        for _ in range(19):
            await hooked.add_webhook(hanging)
        await hooked.add_webhook(receiver)
        for _ in range(5):
            await hooked.accept()
        async with dispatching(hooked.db, hooked.keyring, Poster(LOOPBACK, within_seconds=60)):
            await hanging.until(19)
            assert len(await receiver.until(5)) == 5
            for _ in range(5):
                await hooked.accept()
            assert len(await receiver.until(10)) == 10  # while the others still hang


async def test_a_webhook_that_failed_for_five_days_is_disabled(hooked: Hooked, receiver: Receiver) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    receiver.answer = status(500)
    await hooked.accept()
    age = "UPDATE webhook_standing SET failures = 9, failing_since = now() - $1::interval"
    async with dispatching(hooked.db, hooked.keyring):
        await hooked.db.execute(age, 5 * DAY - timedelta(minutes=1))
        await hooked.until_done(webhook_id)
        assert (await hooked.standing(webhook_id))["status"] == "enabled"
        await hooked.db.execute(age, 5 * DAY + timedelta(minutes=1))
        await hooked.make_due()
        async with asyncio.timeout(20):
            while (await hooked.standing(webhook_id))["status"] == "enabled":
                await hooked.db.execute("SELECT pg_sleep(0.01)")
        assert (await hooked.standing(webhook_id))["disabled_by"] == "failures"
        sent = len(receiver.received)
        await hooked.accept()
        assert len(await hooked.rows(webhook_id)) == 1  # nothing new is kept for it
        receiver.answer = OK
        await update_webhook(hooked.db, hooked.tenant_id, webhook_id, status="enabled")
        await receiver.until(sent + 1)  # what waits is tried at once


async def test_what_failed_for_three_days_is_given_up(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    receiver.answer = status(500)
    await hooked.accept()
    await db.execute("UPDATE webhook_delivery SET created_at = now() - interval '3 days', attempts = 20")
    async with dispatching(hooked.db, hooked.keyring):
        async with asyncio.timeout(20):
            while (await hooked.rows(webhook_id))[0]["state"] == "pending":
                await db.execute("SELECT pg_sleep(0.01)")
    (row,) = await hooked.rows(webhook_id)
    assert (row["state"], row["result"], row["status"]) == ("failed", "refused", 500)
    assert row["finished_at"] is not None


async def test_a_secret_that_changed_signs_beside_the_old_one(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    old, new = hooked.secrets[webhook_id], new_secret()
    keys = await hooked.keyring.tenant(hooked.tenant_id)
    webhook = await get_webhook(db, hooked.tenant_id, webhook_id)
    sealed = keys.seal("webhook.secret", webhook_id, new.encode())
    await rotate_secret(db, webhook, sealed, keys.seal("webhook.old_secret", webhook_id, old.encode()))
    async with dispatching(hooked.db, hooked.keyring):
        await hooked.accept()
        (first,) = await receiver.until(1)
        assert first.verify(old) == first.verify(new)
        await db.execute("UPDATE webhook SET old_secret_until = now()")
        await hooked.accept()
        second = (await receiver.until(2))[1]
    second.verify(new)
    assert " " not in second.headers["webhook-signature"]


async def test_what_a_lost_worker_held_is_sent_by_another(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    await hooked.accept()
    (held,) = await claim_webhooks(db, limit=10, lease_for=timedelta(minutes=1))
    assert held.webhook_id == webhook_id
    assert await claim_webhooks(db, limit=10, lease_for=timedelta(minutes=1)) == []
    async with dispatching(hooked.db, hooked.keyring):
        await db.execute("UPDATE webhook_standing SET claim_expires_at = now()")
        await receiver.until(1)


async def test_a_worker_that_ends_lets_go_of_what_it_could_not_finish(hooked: Hooked, db: Database) -> None:
    async with receiving() as hanging:
        hanging.behave = hang
        webhook_id = await hooked.add_webhook(hanging)
        await hooked.accept()
        async with dispatching(hooked.db, hooked.keyring, Poster(LOOPBACK, within_seconds=60)):
            await hanging.until(1)
        standing = await hooked.standing(webhook_id)
        assert (standing["claim_token"], standing["failures"]) == (None, 0)
        (row,) = await hooked.rows(webhook_id)
        assert (row["state"], row["attempts"]) == ("pending", 0)


async def test_a_webhook_that_cannot_be_opened_waits_and_stops_nobody(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    broken = await hooked.add_webhook(receiver, "email.sent")
    await db.execute("UPDATE webhook SET sealed_secret = set_byte(sealed_secret, 60, get_byte(sealed_secret, 60) # 1)")
    await hooked.add_webhook(receiver, "email.sent")
    private = await hooked.add_webhook("https://10.0.0.1/", "email.sent")  # a network that was taken from the settings
    await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        await receiver.until(1)
        async with asyncio.timeout(20):
            while not ((await hooked.standing(broken))["failures"] and (await hooked.standing(private))["failures"]):
                await db.execute("SELECT pg_sleep(0.01)")
    assert len(receiver.received) == 1


async def test_a_message_that_cannot_be_opened_is_a_failure_of_its_own(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent", include_personal=True)
    await hooked.accept()
    await db.execute(
        "UPDATE message SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
    )
    async with dispatching(hooked.db, hooked.keyring):
        (row,) = await hooked.until_done(webhook_id)
    assert (row["state"], row["result"]) == ("pending", "unreadable")
    assert receiver.received == []


async def test_a_test_is_sent_and_says_so(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.bounced")
    async with dispatching(hooked.db, hooked.keyring):
        delivery_id = await add_test(db, webhook_id)
        (received,) = await receiver.until(1)
    event = received.verify(hooked.secrets[webhook_id])
    assert (event["type"], event["data"]) == ("webhook.test", {"id": str(delivery_id)})


async def test_what_was_sent_is_sent_again_when_asked_singly_by_time_or_by_failure(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    for _ in range(3):
        await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        await receiver.until(3)
        rows = await hooked.until_done(webhook_id)
        assert await replay(db, hooked.tenant_id, webhook_id, delivery_id=rows[0]["delivery_id"]) == 1
        await receiver.until(4)
        assert receiver.received[3].headers["webhook-id"] == str(rows[0]["delivery_id"])
        await hooked.until_done(webhook_id)
        await db.execute("UPDATE webhook_delivery SET happened_at = now() - interval '2 days' WHERE delivery_id = $1",
                         rows[1]["delivery_id"])  # fmt: skip
        now = datetime.now(UTC)
        assert await replay(db, hooked.tenant_id, webhook_id, since=now - 3 * DAY, until=now - DAY) == 1
        await receiver.until(5)
        await hooked.until_done(webhook_id)
        assert await replay(db, hooked.tenant_id, webhook_id, failed_only=True) == 0
        await db.execute("UPDATE webhook_delivery SET state = 'failed' WHERE delivery_id = $1", rows[2]["delivery_id"])
        assert await replay(db, hooked.tenant_id, webhook_id, failed_only=True) == 1
        await receiver.until(6)
        assert await replay(db, uuid4(), webhook_id) == 0


async def test_a_deleted_webhook_takes_what_waits_with_it(hooked: Hooked, receiver: Receiver, db: Database) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    await hooked.accept()
    await delete_webhook(db, hooked.tenant_id, webhook_id)
    assert await hooked.rows(webhook_id) == []
    assert await db.fetch("SELECT FROM webhook_standing") == []


async def test_old_deliveries_are_given_up_and_forgotten_by_their_age(
    hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    for _ in range(4):
        await hooked.accept()
    await tidy_webhooks(db, GIVE_UP_AFTER)
    ids: list[UUID] = [row["delivery_id"] for row in await hooked.rows(webhook_id)]
    await db.execute(
        "UPDATE webhook_delivery SET created_at = now() - interval '73 hours' WHERE delivery_id = $1", ids[0]
    )
    for each, age in ((ids[1], "29 days"), (ids[2], "31 days")):
        await db.execute(
            f"UPDATE webhook_delivery SET state = 'delivered', finished_at = now() - interval '{age}' WHERE delivery_id = $1",
            each,
        )
    await tidy_webhooks(db, GIVE_UP_AFTER)
    kept = {row["delivery_id"]: (row["state"], row["result"]) for row in await hooked.rows(webhook_id)}
    assert kept == {ids[0]: ("failed", "not_sent"), ids[1]: ("delivered", None), ids[3]: ("pending", None)}
