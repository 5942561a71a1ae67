"""From accepted to its end, as the caller and the operator see it: delivered, bounced, deferred, dead, expired."""

from datetime import UTC, datetime

import pytest

from bench.gateway import Gateway
from email_gateway.store.database import Database
from tests.flow.caller import Caller, Json
from tests.flow.conftest import Run
from tests.flow.smarthost import ACCEPTED, DROPPED, GREYLISTED, REFUSED, Smarthost
from tests.marks import marked, tax_ids

# aiosmtpd is right in general; here nothing leaves the machine.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")]


def address_of(person: str) -> str:
    return f"{marked(person)}@example.net"


def types(timeline: list[Json]) -> list[str]:
    return [event["type"] for event in timeline]


async def make_due(db: Database, email_id: str) -> None:
    """Let the time pass that the message's next attempt waits for."""
    await db.execute("UPDATE delivery SET next_attempt_at = now() WHERE state = 'queued' AND message_id = $1", email_id)


async def test_an_accepted_mail_is_delivered_and_its_timeline_says_so(caller: Caller, smarthost: Smarthost) -> None:
    to, subject, text = address_of("ana"), marked("subject"), marked("text")
    email_id = await caller.send(to=to, subject=subject, text=text)
    email = await caller.wait_for(email_id, "delivered")
    assert (email["last_event"], email["to"], email["subject"], email["text"]) == ("delivered", [to], subject, text)
    assert email["deliveries"][0]["finished_at"] is not None
    timeline = await caller.timeline(email_id)
    assert types(timeline) == ["accepted", "sending", "delivered"]
    assert [event["recipient"] for event in timeline] == [None, to, to]
    (content,) = smarthost.mails_to(to)
    assert subject.encode() in content
    assert text.encode() in content


async def test_the_inbox_takes_what_a_smarthost_would(run: Run) -> None:
    with run("api", "worker", TRANSPORT="inbox") as gateway:
        caller = Caller(gateway)
        email_id = await caller.send(to=[address_of("ana"), address_of("bia")])
        email = await caller.wait_for(email_id, "delivered", "delivered")
        assert email["last_event"] == "delivered"
        assert types(await caller.timeline(email_id)) == ["accepted", "sending", "sending", "delivered", "delivered"]
        await caller.close()


async def test_a_refused_recipient_bounces_and_the_others_are_delivered(caller: Caller, smarthost: Smarthost) -> None:
    gone, here = address_of("gone"), address_of("here")
    smarthost.answer(gone, REFUSED)
    email_id = await caller.send(to=gone, bcc=here)
    email = await caller.wait_for(email_id, "bounced", "delivered")
    assert email["last_event"] == "bounced"
    assert email["deliveries"][0]["code"] == 550
    (bounce,) = [event for event in await caller.timeline(email_id) if event["type"] == "bounced"]
    assert (bounce["stage"], bounce["code"], bounce["enhanced"]) == ("rcpt", 550, "5.1.1")
    assert gone in bounce["reply"]
    assert not smarthost.mails_to(gone)
    assert len(smarthost.mails_to(here)) == 1


async def test_a_greylisted_mail_is_deferred_and_delivered_later(
    caller: Caller, smarthost: Smarthost, db: Database
) -> None:
    to = address_of("grey")
    smarthost.answer(to, GREYLISTED, ACCEPTED)
    email_id = await caller.send(to=to)
    email = await caller.wait_for(email_id, "queued", attempts=1)
    assert email["last_event"] == "queued"
    assert email["deliveries"][0]["code"] == 451
    assert datetime.fromisoformat(email["deliveries"][0]["next_attempt_at"]) > datetime.now(UTC)
    await make_due(db, email_id)
    await caller.wait_for(email_id, "delivered")
    assert types(await caller.timeline(email_id)) == ["accepted", "sending", "deferred", "sending", "delivered"]


async def test_a_doubt_that_is_held_is_a_dead_letter_which_the_operator_retries(
    caller: Caller, smarthost: Smarthost
) -> None:
    to = address_of("held")
    smarthost.answer(to, DROPPED, ACCEPTED)
    email_id = await caller.send(to=to, on_doubt="hold")
    assert (await caller.wait_for(email_id, "dead"))["last_event"] == "failed"
    assert len(smarthost.mails_to(to)) == 1  # it was taken, and nobody on our side can know
    (letter,) = [one for one in await caller.dead_letters() if one["message_id"] == email_id]
    assert (letter["reason"], letter["domain"], letter["attempts"]) == ("in_doubt", "example.net", 1)
    retried = await caller.admin.post(f"/dlq/{letter['id']}/retry", json={"reason": "asked the recipient"})
    assert retried.json() == {"changed": 1}
    await caller.wait_for(email_id, "delivered")
    assert len(smarthost.mails_to(to)) == 2
    assert not [one for one in await caller.dead_letters() if one["message_id"] == email_id]
    timeline = types(await caller.timeline(email_id))
    assert timeline == ["accepted", "sending", "in_doubt", "dead", "retried", "sending", "delivered"]


async def test_a_doubt_is_sent_again_by_default(caller: Caller, smarthost: Smarthost, db: Database) -> None:
    to = address_of("twice")
    smarthost.answer(to, DROPPED, ACCEPTED)
    email_id = await caller.send(to=to)
    await caller.wait_for(email_id, "queued", attempts=1)
    await make_due(db, email_id)
    await caller.wait_for(email_id, "delivered")
    first, second = smarthost.mails_to(to)
    assert first == second  # the same Message-ID and Date: a reader's client may fold the two
    assert types(await caller.timeline(email_id)) == ["accepted", "sending", "in_doubt", "sending", "delivered"]
    (row,) = await db.fetch("SELECT doubts FROM delivery WHERE message_id = $1", email_id)
    assert row["doubts"] == 1


async def test_a_one_time_code_that_comes_too_late_is_not_sent(
    caller: Caller, smarthost: Smarthost, db: Database
) -> None:
    to = address_of("code")
    smarthost.answer(to, GREYLISTED, ACCEPTED)
    email_id = await caller.send(to=to, text=marked("code"), expires_after=3600)
    await caller.wait_for(email_id, "queued", attempts=1)
    await db.execute("UPDATE message SET expires_at = now() WHERE message_id = $1", email_id)
    await make_due(db, email_id)
    assert (await caller.wait_for(email_id, "expired"))["last_event"] == "failed"
    assert not smarthost.mails_to(to)
    assert types(await caller.timeline(email_id))[-1] == "expired"
    assert not [one for one in await caller.dead_letters() if one["message_id"] == email_id]


async def test_a_persons_mail_is_found_by_tax_id_address_and_external_id(caller: Caller) -> None:
    tax_id, to, external_id = next(tax_ids()), address_of("found"), marked("customer")
    person = {"tax_id": tax_id, "name": marked("name"), "external_id": external_id}
    email_id = await caller.send(to=to, recipient=person)
    await caller.send(to=address_of("other"), recipient={"external_id": marked("other")})
    dotted = f"{tax_id[:3]}.{tax_id[3:6]}.{tax_id[6:9]}-{tax_id[9:]}"
    for criterion in ({"tax_id": tax_id}, {"tax_id": dotted}, {"address": to.upper()}, {"external_id": external_id}):
        assert await caller.find(**criterion) == [email_id]
    assert await caller.find(external_id=marked("nobody")) == []
    email = await caller.get(email_id)
    assert email["person"]["external_id"] == external_id
    assert tax_id not in str(email)  # masked


async def test_the_books_balance(gateway: Gateway, db: Database) -> None:
    (books,) = await db.fetch("SELECT * FROM conservation")
    assert books["accepted"] > 0
    assert books["difference"] == 0
