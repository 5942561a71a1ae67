"""Mail that leaves later: accepted, shown, moved and cancelled over HTTP and with Resend's own SDK."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import ResendError, ValidationError

from email_gateway.store.accounts import create_api_key
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio

PARAMS: resend.Emails.SendParams = {
    "from": "Acme <billing@acme.example>",
    "to": ["maria@example.net"],
    "subject": "Your invoice",
    "html": "<p>Attached.",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def schedule(client: httpx.AsyncClient, when: str = "in 2 hours", **changes: Any) -> str:
    answer = await client.post("/v1/emails", json=email(scheduled_at=when, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_scheduled_message_is_shown_as_such_with_its_time(acme: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    sent = await schedule(acme, "in 2 hours", cc="c@example.net", expires_after=60)
    read = (await acme.get(f"/v1/emails/{sent}")).json()
    assert read["last_event"] == "scheduled"
    assert timedelta(0) <= at(read["scheduled_at"]) - before - timedelta(hours=2) < timedelta(minutes=1)
    assert [one["state"] for one in read["deliveries"]] == ["scheduled", "scheduled"]
    assert {one["next_attempt_at"] for one in read["deliveries"]} == {read["scheduled_at"]}
    assert at(read["expires_at"]) - at(read["scheduled_at"]) == timedelta(seconds=60)
    (listed,) = (await acme.get("/v1/emails")).json()["data"]
    assert (listed["last_event"], listed["scheduled_at"]) == ("scheduled", read["scheduled_at"])


async def test_a_message_without_a_time_has_none(acme: httpx.AsyncClient) -> None:
    for fields in ({}, {"scheduled_at": "now"}):
        answer = await acme.post("/v1/emails", json=email(**fields))
        read = (await acme.get(f"/v1/emails/{answer.json()['id']}")).json()
        assert (read["last_event"], read["scheduled_at"]) == ("queued", None)


@pytest.mark.parametrize("when", ["next week", "in 31 days", "2020-01-01T00:00:00Z", ""])
async def test_a_time_that_is_none_is_refused_without_repeating_it(acme: httpx.AsyncClient, when: str) -> None:
    sent = await schedule(acme)
    for answer in (
        await acme.post("/v1/emails", json=email(scheduled_at=when)),
        await acme.patch(f"/v1/emails/{sent}", json={"scheduled_at": when}),
    ):
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert fault["pointer"] == "/scheduled_at"
        assert not when or when not in answer.text


async def test_an_accepted_request_is_answered_the_same_when_its_time_has_come(acme: httpx.AsyncClient) -> None:
    body = email(scheduled_at=(datetime.now(UTC) + timedelta(milliseconds=200)).isoformat())
    headers = {"Idempotency-Key": "scheduled-1"}
    first = await acme.post("/v1/emails", json=body, headers=headers)
    async with asyncio.timeout(10):
        while (await acme.get(f"/v1/emails/{first.json()['id']}")).json()["last_event"] != "queued":
            pass
    again = await acme.post("/v1/emails", json=body, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"


async def test_the_messages_of_a_batch_have_times_of_their_own(acme: httpx.AsyncClient) -> None:
    answer = await acme.post(
        "/v1/emails/batch", json=[email(scheduled_at="in 1 hour"), email(), email(scheduled_at="tomorrow at 9am ET")]
    )
    words = [(await acme.get(f"/v1/emails/{one['id']}")).json()["last_event"] for one in answer.json()["data"]]
    assert words == ["scheduled", "queued", "scheduled"]
    refused = await acme.post("/v1/emails/batch", json=[email(), email(scheduled_at="soon")])
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/1/scheduled_at")


async def test_a_large_message_is_scheduled_too(acme: httpx.AsyncClient) -> None:
    sent = await schedule(acme, html="<p>" + "x" * 2_000_000)
    assert (await acme.get(f"/v1/emails/{sent}")).json()["last_event"] == "scheduled"


async def test_it_is_moved_and_cancelled_and_then_too_late(acme: httpx.AsyncClient) -> None:
    sent = await schedule(acme)
    moved = await acme.patch(f"/v1/emails/{sent}", json={"scheduled_at": "2099-01-01T00:00:00Z"})
    assert moved.status_code == 422
    to = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    moved = await acme.patch(f"/v1/emails/{sent}", json={"scheduled_at": to.isoformat()})
    assert (moved.status_code, moved.json()) == (200, {"object": "email", "id": sent})
    assert at((await acme.get(f"/v1/emails/{sent}")).json()["scheduled_at"]) == to
    cancelled = await acme.post(f"/v1/emails/{sent}/cancel")
    assert (cancelled.status_code, cancelled.json()) == (200, {"object": "email", "id": sent})
    read = (await acme.get(f"/v1/emails/{sent}")).json()
    assert (read["last_event"], read["deliveries"][0]["state"]) == ("canceled", "cancelled")
    events = (await acme.get(f"/v1/emails/{sent}/events")).json()["data"]
    assert [event["type"] for event in events] == ["accepted", "rescheduled", "cancelled"]
    for answer in (
        await acme.post(f"/v1/emails/{sent}/cancel"),
        await acme.patch(f"/v1/emails/{sent}", json={"scheduled_at": "in 1 hour"}),
    ):
        assert (answer.status_code, answer.json()["name"]) == (409, "not_scheduled")


async def test_an_update_names_the_message_of_its_path(acme: httpx.AsyncClient) -> None:
    sent, other = await schedule(acme), await schedule(acme)
    answer = await acme.patch(f"/v1/emails/{sent}", json={"id": other, "scheduled_at": "in 1 hour"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/id")
    missing = await acme.patch(f"/v1/emails/{sent}", json={})
    assert missing.json()["name"] == "missing_required_field"


async def test_a_sending_key_cannot_call_back(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await schedule(acme)
    key = await create_api_key(api.db, api.acme, "sender", actor="test", scopes=("sending_access",))
    async with api.client(key.secret) as sender:
        assert (await sender.post(f"/v1/emails/{sent}/cancel")).status_code == 403
        assert (await sender.patch(f"/v1/emails/{sent}", json={"scheduled_at": "in 1 hour"})).status_code == 403


@pytest.mark.usefixtures("sdk")
async def test_the_sdk_schedules_moves_and_cancels() -> None:
    sent = await asyncio.to_thread(resend.Emails.send, {**PARAMS, "scheduled_at": "in 1 min"})
    read = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert read["last_event"] == "scheduled"
    to = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    moved = await asyncio.to_thread(resend.Emails.update, {"id": sent["id"], "scheduled_at": to.isoformat()})
    assert (moved["object"], moved["id"]) == ("email", sent["id"])
    shown: Any = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert at(shown["scheduled_at"]) == to
    cancelled = await asyncio.to_thread(resend.Emails.cancel, sent["id"])
    assert (cancelled["object"], cancelled["id"]) == ("email", sent["id"])
    assert (await asyncio.to_thread(resend.Emails.get, sent["id"]))["last_event"] == "canceled"
    with pytest.raises(ResendError) as late:
        await asyncio.to_thread(resend.Emails.cancel, sent["id"])
    assert (late.value.code, late.value.error_type) == (409, "not_scheduled")
    with pytest.raises(ValidationError, match="Friday at 3pm ET"):
        await asyncio.to_thread(resend.Emails.send, {**PARAMS, "scheduled_at": "whenever"})


@pytest.mark.usefixtures("sdk")
async def test_the_asynchronous_sdk_schedules_moves_and_cancels() -> None:
    sent = await resend.Emails.send_async({**PARAMS, "scheduled_at": "tomorrow at 9am"})
    await resend.Emails.update_async({"id": sent["id"], "scheduled_at": "in 2 hours"})
    await resend.Emails.cancel_async(sent["id"])
    assert (await resend.Emails.get_async(sent["id"]))["last_event"] == "canceled"
    with pytest.raises(ResendError) as late:
        await resend.Emails.update_async({"id": sent["id"], "scheduled_at": "in 2 hours"})
    assert late.value.code == 409
    batch = await resend.Batch.send_async([{**PARAMS, "scheduled_at": "in 1 hour"}])
    assert (await resend.Emails.get_async(batch["data"][0]["id"]))["last_event"] == "scheduled"
