"""Webhooks over HTTP: made, read, changed, deleted; and what is refused."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from email_gateway.store.webhooks import MAX_WEBHOOKS
from tests.api.house import Served, email
from tests.marks import MARK

pytestmark = pytest.mark.anyio

HOOK = {"endpoint": "https://hooks.example.com/in?token=x", "events": ["email.delivered", "email.bounced"]}
ID = "00000000-0000-7000-8000-000000000000"


async def make(acme: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    created = await acme.post("/v1/webhooks", json={**HOOK, **changes})
    assert created.status_code == 201, created.text
    answer: dict[str, Any] = created.json()
    return answer


async def test_a_webhook_is_made_read_and_listed(acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    assert made["object"] == "webhook"
    read = (await acme.get(f"/v1/webhooks/{made['id']}")).json()
    assert {name: read[name] for name in HOOK} == HOOK
    assert (read["signing_secret"], read["status"], read["disabled_by"]) == (made["signing_secret"], "enabled", None)
    assert read["include_personal"] is False
    listed = (await acme.get("/v1/webhooks")).json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    shown = {name: value for name, value in read.items() if name not in ("signing_secret", "object")}
    assert listed["data"] == [shown]


async def test_webhooks_are_listed_by_page_in_both_directions(acme: httpx.AsyncClient) -> None:
    made = [(await make(acme))["id"] for _ in range(3)]
    first = (await acme.get("/v1/webhooks", params={"limit": 2})).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    newer = (await acme.get("/v1/webhooks", params={"before": made[0], "limit": 1})).json()
    assert ([one["id"] for one in newer["data"]], newer["has_more"]) == ([made[1]], True)


async def test_endpoint_and_secret_are_sealed(api: Served, acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    row = await api.db.fetch_one("SELECT * FROM webhook WHERE webhook_id = $1", UUID(made["id"]))
    assert row is not None
    assert row["host"] == "hooks.example.com"
    for field, value in (("endpoint", HOOK["endpoint"]), ("secret", made["signing_secret"])):
        opened = await api.context.keyring.open(api.acme, f"webhook.{field}", UUID(made["id"]), row[f"sealed_{field}"])
        assert opened.decode() == value


async def test_a_webhook_is_changed_in_part(acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    path = f"/v1/webhooks/{made['id']}"
    for change in (
        {"endpoint": "https://other.example.com/"},
        {"events": ["email.sent"]},
        {"include_personal": True},
        {"status": "disabled"},
        {"webhook_id": made["id"]},
    ):
        assert (await acme.patch(path, json=change)).json() == {"id": made["id"], "object": "webhook"}
    read = (await acme.get(path)).json()
    assert (read["endpoint"], read["events"], read["include_personal"]) == (
        "https://other.example.com/",
        ["email.sent"],
        True,
    )
    assert (read["status"], read["disabled_by"]) == ("disabled", "caller")
    await acme.patch(path, json={"status": "enabled"})
    assert (await acme.get(path)).json()["disabled_by"] is None


async def test_a_secret_is_changed_and_the_old_one_is_kept_for_a_day(api: Served, acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    path = f"/v1/webhooks/{made['id']}"
    rotated = (await acme.post(f"{path}/signing-secret/rotate")).json()
    assert rotated["signing_secret"] != made["signing_secret"]
    assert (await acme.get(path)).json()["signing_secret"] == rotated["signing_secret"]
    row = await api.db.fetch_one(
        "SELECT sealed_old_secret, old_secret_until - now() AS rest FROM webhook WHERE webhook_id = $1",
        UUID(made["id"]),
    )
    assert row is not None
    assert 23 <= row["rest"].total_seconds() / 3600 <= 24
    opened = await api.context.keyring.open(api.acme, "webhook.old_secret", UUID(made["id"]), row["sealed_old_secret"])
    assert opened.decode() == made["signing_secret"]


async def test_a_deleted_webhook_is_gone(acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    path = f"/v1/webhooks/{made['id']}"
    assert (await acme.delete(path)).json() == {"id": made["id"], "deleted": True, "object": "webhook"}
    await assert_not_found(acme, made["id"])


async def assert_not_found(client: httpx.AsyncClient, webhook_id: str) -> None:
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/signing-secret/rotate")):
        answer = await client.request(method, f"/v1/webhooks/{webhook_id}{rest}", json={})
        assert answer.status_code == 404, (method, rest)


async def test_another_tenants_webhooks_are_not_found(api: Served, acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    async with api.client(api.other_key) as other:
        await assert_not_found(other, made["id"])
        assert (await other.get("/v1/webhooks")).json()["data"] == []
    assert (await acme.get(f"/v1/webhooks/{made['id']}")).status_code == 200
    await assert_not_found(acme, "nothing")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"endpoint": f"http://{MARK}.example.com/"}, "/endpoint"),
        ({"endpoint": "https://169.254.169.254/"}, "/endpoint"),
        ({"endpoint": f"https://{MARK}:x@example.com/"}, "/endpoint"),
        ({"events": []}, "/events"),
        ({"events": [MARK]}, "/events"),
        ({"events": "email.sent"}, "/events"),
        ({"include_personal": MARK}, "/include_personal"),
        ({"unknown": MARK}, "/unknown"),
    ],
)
async def test_what_is_wrong_with_a_webhook_is_named_by_its_place(
    acme: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    made = await make(acme)
    for answer in (
        await acme.post("/v1/webhooks", json={**HOOK, **changes}),
        await acme.patch(f"/v1/webhooks/{made['id']}", json=changes),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        assert MARK not in answer.text


async def test_an_unknown_status_and_another_id_are_refused(acme: httpx.AsyncClient) -> None:
    made = await make(acme)
    for changes, pointer in (({"status": "asleep"}, "/status"), ({"webhook_id": ID}, "/webhook_id")):
        answer = await acme.patch(f"/v1/webhooks/{made['id']}", json=changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_tenant_has_twenty_webhooks_at_most(acme: httpx.AsyncClient) -> None:
    for _ in range(MAX_WEBHOOKS):
        await make(acme)
    full = await acme.post("/v1/webhooks", json=HOOK)
    assert (full.status_code, full.json()["name"]) == (409, "conflict")


async def test_what_was_sent_is_listed_read_and_sent_again(api: Served, acme: httpx.AsyncClient) -> None:
    made = await make(acme, events=["email.sent"])
    path = f"/v1/webhooks/{made['id']}/events"
    assert (await acme.get(path)).json() == {"has_more": False, "data": [], "object": "list"}
    email_ids = [(await acme.post("/v1/emails", json=email())).json()["id"] for _ in range(3)]
    listed = (await acme.get(path, params={"limit": 2})).json()
    assert ([one["email_id"] for one in listed["data"]], listed["has_more"]) == (email_ids[:0:-1], True)
    rest = (await acme.get(path, params={"after": listed["data"][-1]["id"]})).json()
    assert ([one["email_id"] for one in rest["data"]], rest["has_more"]) == ([email_ids[0]], False)
    (event,) = rest["data"]
    assert (event["type"], event["status"], event["attempts"]) == ("email.sent", "pending", 0)
    attempts = f"{path}/{event['id']}/attempts"
    assert (await acme.get(attempts)).json()["data"] == []
    keys = await api.context.keyring.tenant(api.acme)
    for state, said, word in (
        ("pending", b"", "attempting"),
        ("failed", b"no", "failed"),
        ("delivered", b"yes", "success"),
    ):
        answer = keys.seal("webhook_delivery.answer", UUID(event["id"]), said) if said else None
        await api.db.execute(
            "UPDATE webhook_delivery SET state = $2, attempts = 1, attempted_at = now(), result = 'refused', status = 418,"
            " milliseconds = 7, sealed_answer = $3, finished_at = CASE WHEN $2 <> 'pending' THEN now() END"
            " WHERE delivery_id = $1",
            UUID(event["id"]),
            state,
            answer,
        )
        assert (await acme.get(path)).json()["data"][-1]["status"] == word
        (attempt,) = (await acme.get(attempts)).json()["data"]
        assert (attempt["http_status_code"], attempt["response"]) == (418, said.decode() or "refused")
        assert attempt["milliseconds"] == 7
    replayed = await acme.post(f"{path}/{event['id']}/replay")
    assert replayed.json() == {"id": event["id"], "object": "webhook_event"}
    assert (await acme.get(path)).json()["data"][-1]["status"] == "pending"


async def test_another_tenants_events_are_not_found(api: Served, acme: httpx.AsyncClient) -> None:
    made = await make(acme, events=["email.sent"])
    own = await make(acme, events=["email.bounced"])
    await acme.post("/v1/emails", json=email())
    (event,) = (await acme.get(f"/v1/webhooks/{made['id']}/events")).json()["data"]
    async with api.client(api.other_key) as other:
        for client, webhook_id in ((other, made["id"]), (acme, own["id"])):
            path = f"/v1/webhooks/{webhook_id}/events"
            assert (await client.get(f"{path}/{event['id']}/attempts")).status_code == 404
            assert (await client.post(f"{path}/{event['id']}/replay")).status_code == 404
        assert (await other.get(f"/v1/webhooks/{made['id']}/events")).status_code == 404
    backwards = await acme.get(f"/v1/webhooks/{made['id']}/events", params={"before": ID})
    assert (backwards.status_code, backwards.json()["errors"][0]["pointer"]) == (422, "/before")
