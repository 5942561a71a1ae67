"""A caller's second try for what could not be delivered."""

import uuid

import httpx
import pytest

from email_gateway.store.statistics import list_recounts
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio


async def send(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/emails", json=email(to=["a@example.net", "b@example.net", "c@example.net"]))
    return str(answer.json()["id"])


async def end(api: Served, message_id: str, recipient: int, state: str, reason: str) -> None:
    await api.db.execute(
        "UPDATE delivery SET state = $3, reason = $4, attempts = 1, finished_at = now()"
        " WHERE message_id = $1 AND recipient = $2",
        uuid.UUID(message_id), recipient, state, reason,
    )  # fmt: skip


async def test_what_is_dead_or_held_in_doubt_is_queued_again_and_nothing_else(
    api: Served, acme: httpx.AsyncClient
) -> None:
    sent = await send(acme)
    await end(api, sent, 0, "dead", "in_doubt")
    await end(api, sent, 1, "dead", "worker_lost")
    await end(api, sent, 2, "bounced", "no_such_user")
    await api.db.execute("UPDATE message SET expires_at = now() WHERE message_id = $1", uuid.UUID(sent))
    answer = await acme.post(f"/v1/emails/{sent}/retry")
    assert (answer.status_code, answer.json()) == (200, {"object": "email", "id": sent, "retried": 2})
    read = (await acme.get(f"/v1/emails/{sent}")).json()
    assert [one["state"] for one in read["deliveries"]] == ["queued", "queued", "bounced"]
    events = (await acme.get(f"/v1/emails/{sent}/events")).json()["data"]
    assert [(one["type"], one["recipient"], one["reason"]) for one in events[1:]] == [
        ("retried", "a@example.net", "caller"),
        ("retried", "b@example.net", "caller"),
    ]
    row = await api.db.fetch_one(
        "SELECT expires_at > now() + interval '23 hours' AS lives FROM message WHERE message_id = $1", uuid.UUID(sent)
    )
    assert row is not None
    assert row["lives"]
    (entry,) = await api.db.fetch("SELECT * FROM audit WHERE action = 'emails.retried' AND tenant_id = $1", api.acme)
    assert (entry["actor"].startswith("api_key:"), entry["subject"]) == (True, sent)
    assert await list_recounts(api.db) == {}


async def test_where_nothing_is_dead_there_is_nothing_to_retry(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    for _ in range(2):
        answer = await acme.post(f"/v1/emails/{sent}/retry")
        assert (answer.status_code, answer.json()["name"]) == (409, "nothing_to_retry")
    assert await api.db.fetch("SELECT FROM audit WHERE action = 'emails.retried' AND tenant_id = $1", api.acme) == []


async def test_another_tenants_dead_letters_stay_dead(api: Served, acme: httpx.AsyncClient) -> None:
    async with api.client(api.other_key) as other:
        sent = await send(other)
    await end(api, sent, 0, "dead", "in_doubt")
    assert (await acme.post(f"/v1/emails/{sent}/retry")).status_code == 404
    row = await api.db.fetch_one("SELECT state FROM delivery WHERE message_id = $1 AND recipient = 0", uuid.UUID(sent))
    assert row is not None
    assert row["state"] == "dead"
