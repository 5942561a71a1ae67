import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.api.house import Served, email

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(alone: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with alone.client() as client:
        yield client


@pytest.fixture
async def admin(alone: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with alone.admin() as client:
        yield client


async def make_dead(alone: Served, acme: httpx.AsyncClient, *, reason: str = "worker_lost", **changes: Any) -> str:
    """A message whose one delivery is dead; returns the delivery's id."""
    sent = (await acme.post("/v1/emails", json=email(**changes))).json()["id"]
    await alone.db.execute(
        "UPDATE delivery SET state = 'dead', next_attempt_at = NULL, finished_at = now(), reason = $2, attempts = 3"
        " WHERE message_id = $1",
        uuid.UUID(sent),
        reason,
    )
    await alone.db.execute(
        "UPDATE message SET expires_at = now() - interval '1 hour' WHERE message_id = $1", uuid.UUID(sent)
    )
    return f"{sent}-0"


async def audits(alone: Served) -> list[tuple[str, str, str | None, str | None]]:
    rows = await alone.db.fetch(
        "SELECT actor, action, subject, reason FROM audit WHERE action LIKE 'dlq.%' ORDER BY at"
    )
    return [tuple(row) for row in rows]


async def state_of(acme: httpx.AsyncClient, delivery_id: str) -> str:
    read = (await acme.get(f"/v1/emails/{delivery_id.rpartition('-')[0]}")).json()
    state: str = read["deliveries"][0]["state"]
    return state


async def test_dead_letters_are_listed_shown_and_counted_without_anything_personal(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await acme.post("/v1/emails", json=email())
    dead = [await make_dead(alone, acme), await make_dead(alone, acme, reason="in_doubt", to="maria@example.org")][::-1]
    listed = await admin.get("/admin/dlq")
    assert [one["id"] for one in listed.json()["data"]] == dead
    assert listed.json()["data"][0] | {"created_at": 0, "dead_at": 0, "to_do": ""} == {
        "id": dead[0],
        "tenant_id": str(alone.acme),
        "tenant": "acme",
        "message_id": dead[0].rpartition("-")[0],
        "domain": "example.org",
        "attempts": 3,
        "reason": "in_doubt",
        "code": None,
        "enhanced": None,
        "created_at": 0,
        "dead_at": 0,
        "to_do": "",
    }
    shown = await admin.get(f"/admin/dlq/{dead[0]}")
    assert shown.json()["delivery"] == listed.json()["data"][0]
    assert [event["type"] for event in shown.json()["events"]] == ["accepted"]
    stats = (await admin.get("/admin/dlq/stats")).json()
    assert stats["total"] == 2
    assert {one["reason"]: one["deliveries"] for one in stats["by_reason"]} == {"worker_lost": 1, "in_doubt": 1}
    assert {one["domain"]: one["deliveries"] for one in stats["by_domain"]} == {"example.net": 1, "example.org": 1}
    assert "`email-gateway dlq retry` sends it again" in listed.json()["data"][0]["to_do"]
    assert "maria" not in listed.text + shown.text


async def test_the_list_is_paged_and_filtered(alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    dead = [await make_dead(alone, acme, reason=reason) for reason in ("in_doubt", "worker_lost", "in_doubt")][::-1]
    page = (await admin.get("/admin/dlq", params={"limit": 2})).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (dead[:2], True)
    rest = (await admin.get("/admin/dlq", params={"after": dead[1]})).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (dead[2:], False)
    for query, expected in (
        ({"reason": "in_doubt"}, [dead[0], dead[2]]),
        ({"domain": "example.org"}, []),
        ({"tenant_id": str(alone.other)}, []),
        ({"tenant_id": str(alone.acme), "domain": "example.net", "reason": "worker_lost"}, [dead[1]]),
    ):
        assert [one["id"] for one in (await admin.get("/admin/dlq", params=query)).json()["data"]] == expected


async def test_a_retried_letter_is_queued_with_time_to_live_and_leaves_traces(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    dead = await make_dead(alone, acme)
    answer = await admin.post(f"/admin/dlq/{dead}/retry", json={"reason": "relay repaired"})
    assert (answer.status_code, answer.json()) == (200, {"changed": 1})
    assert await state_of(acme, dead) == "queued"
    row = await alone.db.fetch_one("SELECT expires_at > now() + interval '23 hours' AS lives FROM message")
    assert row is not None
    assert row["lives"]
    events = (await acme.get(f"/v1/emails/{dead.rpartition('-')[0]}/events")).json()["data"]
    assert [event["type"] for event in events] == ["accepted", "retried"]
    assert await audits(alone) == [("admin-key", "dlq.retried", dead, "relay repaired")]


async def test_a_discarded_letter_is_cancelled_and_still_counted(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    dead = await make_dead(alone, acme)
    assert (await admin.post(f"/admin/dlq/{dead}/discard")).status_code == 200
    assert await state_of(acme, dead) == "cancelled"
    assert (await acme.get(f"/v1/emails/{dead.rpartition('-')[0]}")).json()["last_event"] == "canceled"
    row = await alone.db.fetch_one("SELECT * FROM conservation WHERE tenant_id = $1", alone.acme)
    assert row is not None
    assert (row["accepted"], row["cancelled"], row["difference"]) == (1, 1, 0)
    assert await audits(alone) == [("admin-key", "dlq.discarded", dead, None)]


async def test_what_is_not_dead_is_404_for_every_act_and_leaves_no_audit(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    sent = (await acme.post("/v1/emails", json=email())).json()["id"]
    for used in (f"{sent}-0", f"{sent}-49", f"{sent}-999999", sent, f"{uuid.uuid4()}-0", "x", "%00-0", f"{sent}-²"):
        assert (await admin.get(f"/admin/dlq/{used}")).status_code == 404
        for act in ("retry", "discard"):
            assert (await admin.post(f"/admin/dlq/{used}/{act}")).status_code == 404, used
    assert await audits(alone) == []
    assert await state_of(acme, f"{sent}-0") == "queued"


async def test_an_act_is_done_once(alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    dead = await make_dead(alone, acme)
    assert (await admin.post(f"/admin/dlq/{dead}/retry")).status_code == 200
    assert (await admin.post(f"/admin/dlq/{dead}/retry")).status_code == 404
    assert (await admin.post(f"/admin/dlq/{dead}/discard")).status_code == 404


@pytest.mark.parametrize(("act", "state"), [("retry", "queued"), ("discard", "cancelled")])
async def test_many_are_changed_by_filter_and_the_others_stay(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient, act: str, state: str
) -> None:
    chosen = [await make_dead(alone, acme, reason="in_doubt") for _ in range(3)]
    kept = await make_dead(alone, acme, reason="worker_lost")
    answer = await admin.post(f"/admin/dlq/{act}", json={"filter": {"reason": "in_doubt"}, "reason": "outage"})
    assert answer.json() == {"changed": 3}
    assert {await state_of(acme, one) for one in chosen} == {state}
    assert await state_of(acme, kept) == "dead"
    assert [row[3] for row in await audits(alone)] == ["outage"]
    everything = await admin.post(f"/admin/dlq/{act}", json={"all": True})
    assert everything.json() == {"changed": 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": {}},
        {"filter": {"reason": "x"}, "all": True},
        {"filter": {"state": "queued"}},
        {"filter": {"dead_before": "2026-01-01T00:00:00"}},
        {"all": "yes"},
    ],
)
async def test_a_filter_that_may_not_be_meant_is_refused(shared: Served, body: dict[str, Any]) -> None:
    async with shared.admin() as admin:
        assert (await admin.post("/admin/dlq/discard", json=body)).status_code == 422
