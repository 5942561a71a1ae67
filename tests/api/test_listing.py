"""Lists narrowed by tag, status and time, and the search with them beside a person."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.house import Served, email

pytestmark = pytest.mark.anyio

INVOICE = {"name": "kind", "value": "invoice"}


async def send(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/v1/emails", json=email(**changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/v1/emails", params=query)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def sought(client: httpx.AsyncClient, **wanted: Any) -> list[str]:
    answer = await client.post("/v1/emails/search", json=wanted)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def test_lists_and_searches_are_narrowed_alike(acme: httpx.AsyncClient) -> None:
    first = await send(acme, tags=[INVOICE], to="ana@example.net")
    second = await send(acme, tags=[INVOICE], scheduled_at="in 1 hour")
    third = await send(acme)
    await acme.post(f"/v1/emails/{second}/cancel")
    scheduled = await send(acme, scheduled_at="in 1 hour")
    assert await listed(acme, tag="kind:invoice") == await sought(acme, tag=INVOICE) == [second, first]
    assert await listed(acme, status="cancelled") == await sought(acme, status="cancelled") == [second]
    assert await listed(acme, status="scheduled") == await sought(acme, status="scheduled") == [scheduled]
    assert await listed(acme, status="queued") == [third, first]
    assert await listed(acme, tag="kind:invoice", status="queued") == [first]
    assert await sought(acme, address="maria@example.net", tag=INVOICE) == [second]
    assert await sought(acme, address="ana@example.net", status="cancelled") == []
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    everything = [scheduled, third, second, first]
    assert await listed(acme, created_after=(now - hour).isoformat()) == everything
    assert await listed(acme, created_before=(now - hour).isoformat()) == []
    assert (
        await sought(acme, created_after=(now - hour).isoformat(), created_before=(now + hour).isoformat())
        == everything
    )
    assert await listed(acme, tag="kind:invoice", limit=1, after=second) == [first]
    assert await listed(acme, tag="kind:invoice", before=first) == [second]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("tag=kind", "/tag"),
        ("tag=:x", "/tag"),
        ("tag=a%3Ab%3Ac", "/tag"),
        ("tag=n%C3%A3o:x", "/tag"),
        ("status=lost", "/status"),
        ("status=", "/status"),
        ("created_after=2026-11-30", "/created_after"),
        ("created_before=yesterday", "/created_before"),
    ],
)
async def test_a_filter_that_is_none_is_refused(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    answer = await client.get(f"/v1/emails?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"status": "lost"}, "/status"),
        ({"tag": "kind:invoice"}, "/tag"),
        ({"tag": {"name": "kind"}}, "/tag/value"),
        ({"created_after": "2026-11-30T00:00:00"}, "/created_after"),
        ({"created_before": 7}, "/created_before"),
        ({"limit": 5}, ""),
        ({"address": "a@example.net", "tax_id": "52998224725", "status": "queued"}, ""),
    ],
)
async def test_a_search_that_is_none_is_refused(
    client: httpx.AsyncClient, wanted: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/v1/emails/search", json=wanted)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_search_is_audited_by_what_it_went_by(api: Served, acme: httpx.AsyncClient) -> None:
    await sought(acme, address="maria@example.net", tag=INVOICE, status="queued")
    (row,) = await api.db.fetch(
        "SELECT subject FROM audit WHERE action = 'emails.searched' AND tenant_id = $1", api.acme
    )
    assert row["subject"] == "address, tag, status"


async def test_another_tenants_tags_and_states_find_nothing(api: Served, acme: httpx.AsyncClient) -> None:
    async with api.client(api.other_key) as other:
        await send(other, tags=[INVOICE])
    assert await listed(acme, tag="kind:invoice") == await listed(acme, status="queued") == []
