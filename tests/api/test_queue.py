"""The queue over HTTP: looked at, held, released, flushed; with the admin key, and in the audit."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from email_gateway.store import pace
from email_gateway.store.pace import Why
from tests.api.house import Served, email
from tests.api.test_dead_letters import make_dead
from tests.marks import MARK

pytestmark = pytest.mark.anyio


@pytest.fixture
async def acme(alone: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with alone.client() as client:
        yield client


@pytest.fixture
async def admin(alone: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with alone.admin() as client:
        yield client


async def hold_by_replies(served: Served) -> None:
    why = Why("auth", "auth_failed", 535, "5.7.8")
    await pace.hold(served.db, "smtp", "", why, probe_in=timedelta(minutes=5), is_probe=False)


async def audits(served: Served) -> list[tuple[object, ...]]:
    rows = await served.db.fetch(
        "SELECT actor, action, subject, reason FROM audit WHERE action LIKE 'queue.%' ORDER BY at"
    )
    return [tuple(row) for row in rows]


async def test_the_queue_shows_what_waits_and_what_is_held(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await acme.post("/v1/emails", json=email(to=[f"{MARK}@example.net", f"{MARK}@example.org"]))
    await hold_by_replies(alone)
    answer = await admin.get("/admin/queue")
    queue = answer.json()
    assert MARK not in answer.text
    assert (queue["queued"]["total"], queue["sending"], queue["is_partial"]) == (2, 0, False)
    assert queue["queued"]["by_age"] == {"5min": 2, "20min": 0, "1h": 0, "4h": 0, "1d": 0, "older": 0}
    assert {one["name"]: one["total"] for one in queue["by_destination"]} == {"example.net": 1, "example.org": 1}
    (lane,) = queue["lanes"]
    assert (lane["name"], lane["held_by"], lane["reason"], lane["code"]) == (
        "route smtp",
        "replies",
        "auth_failed",
        535,
    )
    assert lane["to_do"].endswith("mail flows by itself then.")
    assert lane["next_probe_at"] > lane["since"]


async def test_what_is_held_by_hand_is_released_by_hand_and_in_the_audit(
    alone: Served, admin: httpx.AsyncClient
) -> None:
    named: dict[str, Any] = {"from": "acme.example", "tenant_id": str(alone.acme)}
    held = await admin.post("/admin/queue/hold", json={**named, "reason": "a wrong campaign"})
    assert held.json() == {"name": f"mail from acme.example of tenant {alone.acme}", "is_held": True}
    (lane,) = (await admin.get("/admin/queue")).json()["lanes"]
    assert (lane["held_by"], lane["actor"], lane["note"]) == ("operator", "admin-key", "a wrong campaign")
    released = await admin.post("/admin/queue/release", json={**named, "reason": "stopped"})
    assert (released.status_code, released.json()["is_held"]) == (200, False)
    assert (await admin.post("/admin/queue/release", json=named)).status_code == 404
    subject = f"*/from:{alone.acme}/acme.example"
    assert await audits(alone) == [
        ("admin-key", "queue.held", subject, "a wrong campaign"),
        ("admin-key", "queue.released", subject, "stopped"),
    ]


async def test_flush_names_what_is_probed_and_counts_what_is_due(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await acme.post("/v1/emails", json=email())
    await alone.db.execute("UPDATE delivery SET next_attempt_at = now() + interval '1 hour'")
    await hold_by_replies(alone)
    answer = await admin.post("/admin/queue/flush", json={"everything": True})
    assert answer.json() == {"probed": ["route smtp"], "deliveries": 1, "has_more": False}
    assert [row[1] for row in await audits(alone)] == ["queue.flushed"]


@pytest.mark.parametrize(
    "body",
    [
        {"reason": "why not"},
        {"everything": True, "reason": "x"},
        {"everything": True},
        {"everything": True, "to": "example.net", "reason": "why not"},
        {"to": "nothing at all", "reason": "why not"},
        {"route": "pigeon", "reason": "why not"},
        {"from": "acme.example", "reason": "why not"},
        {"sender": "acme.example", "reason": "why not"},
    ],
)
async def test_a_hold_that_may_not_be_meant_is_refused(shared: Served, body: dict[str, Any]) -> None:
    async with shared.admin() as client:
        assert (await client.post("/admin/queue/hold", json=body)).status_code == 422
        assert (await client.get("/admin/queue")).json()["lanes"] == []


async def test_health_names_what_is_held_and_what_waits_for_a_person(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await make_dead(alone, acme, reason="in_doubt")
    await hold_by_replies(alone)
    health = (await admin.get("/admin/health")).json()
    assert [lane["name"] for lane in health["lanes"]] == ["route smtp"]
    assert [(one["kind"], one["why"], one["count"]) for one in health["waits_for_you"]] == [
        ("held", "auth_failed at auth (535 5.7.8)", None),
        ("dead", "in_doubt", 1),
    ]
    assert all(one["to_do"] for one in health["waits_for_you"])
    assert health["dead_letters"] == 1


async def test_a_trace_tells_the_whole_story_and_nothing_personal(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    sent = (await acme.post("/v1/emails", json=email(to=[f"{MARK}@example.net"], subject=MARK))).json()["id"]
    answer = await admin.get(f"/admin/messages/{sent}/trace")
    trace = answer.json()
    assert MARK not in answer.text
    assert (trace["message_id"], trace["tenant"], trace["sender_domain"]) == (sent, "acme", "acme.example")
    (delivery,) = trace["deliveries"]
    assert (delivery["id"], delivery["domain"], delivery["state"]) == (f"{sent}-0", "example.net", "queued")
    assert (delivery["crashes"], delivery["doubts"], delivery["attempts"]) == (0, 0, 0)
    assert delivery["waits_for"].startswith("Its turn.")
    assert [event["type"] for event in trace["events"]] == ["accepted"]
    for unknown in ("x", "01a20a51-affa-7334-9f2a-3fb5739d3178"):
        assert (await admin.get(f"/admin/messages/{unknown}/trace")).status_code == 404


async def test_dead_letters_are_counted_and_listed_by_age(
    alone: Served, acme: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    old, new = [await make_dead(alone, acme, reason="in_doubt") for _ in range(2)]
    await alone.db.execute(
        "UPDATE delivery SET finished_at = '2026-01-01T00:00:00Z' WHERE message_id = $1", UUID(old.rpartition("-")[0])
    )
    query = {"dead_before": "2026-06-01T00:00:00Z"}
    assert [one["id"] for one in (await admin.get("/admin/dlq", params=query)).json()["data"]] == [old]
    assert (await admin.get("/admin/dlq/stats", params=query)).json()["total"] == 1
    assert (await admin.get("/admin/dlq/stats", params={"reason": "worker_lost"})).json()["total"] == 0
    for wrong in ("yesterday", "2026-06-01T00:00:00"):
        assert (await admin.get("/admin/dlq", params={"dead_before": wrong})).status_code == 422
    assert new != old
