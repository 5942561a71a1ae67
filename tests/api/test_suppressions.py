"""/v1/suppressions over a real server, and what becomes of mail to a suppressed address; by Resend's SDK too."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import resend
from resend.exceptions import ResendError

from email_gateway.store.statistics import list_counts, list_recounts
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio

SUPPRESSIONS = "/v1/suppressions"
ADDRESS = "maria@example.net"


async def suppress(client: httpx.AsyncClient, address: str = ADDRESS, **fields: Any) -> str:
    answer = await client.post(SUPPRESSIONS, json={"email": address, **fields})
    assert answer.status_code == 201, answer.text
    suppression_id: str = answer.json()["id"]
    return suppression_id


async def send(client: httpx.AsyncClient, *to: str) -> dict[str, Any]:
    sent = await client.post("/v1/emails", json=email(to=list(to or (ADDRESS,))))
    assert sent.status_code == 202, sent.text
    read: dict[str, Any] = (await client.get(f"/v1/emails/{sent.json()['id']}")).json()
    return read


async def test_a_suppressed_recipient_is_born_in_its_final_state_and_the_others_are_queued(
    api: Served, acme: httpx.AsyncClient
) -> None:
    await suppress(acme, reason="complaint")
    read = await send(acme, "one@example.net", "Maria@EXAMPLE.net", "two@example.net")
    assert [(one["state"], one["reason"], one["attempts"]) for one in read["deliveries"]] == [
        ("queued", None, 0),
        ("suppressed", "complaint", 0),
        ("queued", None, 0),
    ]
    assert read["deliveries"][1]["finished_at"] is not None
    assert read["deliveries"][1]["next_attempt_at"] is None
    assert read["last_event"] == "queued"
    events = (await acme.get(f"/v1/emails/{read['id']}/events")).json()["data"]
    assert sorted((one["type"], one["recipient"], one["reason"]) for one in events if one["recipient"]) == [
        ("suppressed", "Maria@example.net", "complaint")
    ]
    (counts,) = [one for one in await list_counts(api.db) if one.tenant_id == api.acme]
    assert (counts.accepted, counts.by_state["suppressed"], counts.by_state["queued"]) == (3, 1, 2)  # type: ignore[index]
    assert counts.difference == 0
    assert counts.name not in await list_recounts(api.db)


async def test_mail_to_nobody_but_the_suppressed_is_accepted_and_says_so(acme: httpx.AsyncClient) -> None:
    await suppress(acme)
    assert (await send(acme))["last_event"] == "suppressed"
    batch = await acme.post("/v1/emails/batch", json=[email(), email(to=["other@example.net"])])
    assert batch.status_code == 202
    states = [(await acme.get(f"/v1/emails/{one['id']}")).json()["last_event"] for one in batch.json()["data"]]
    assert states == ["suppressed", "queued"]


async def test_mail_is_queued_again_once_the_suppression_ended(api: Served, acme: httpx.AsyncClient) -> None:
    await suppress(acme)
    assert (await acme.delete(f"{SUPPRESSIONS}/{ADDRESS}")).status_code == 200
    assert (await send(acme))["last_event"] == "queued"
    await suppress(acme, expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert (await send(acme))["last_event"] == "suppressed"
    await api.db.execute("UPDATE suppression SET expires_at = now() WHERE tenant_id = $1", api.acme)
    assert (await send(acme))["last_event"] == "queued"


async def test_another_tenants_suppression_counts_for_nobody_else(api: Served, acme: httpx.AsyncClient) -> None:
    async with api.client(api.other_key) as other:
        suppression_id = await suppress(other)
        assert (await send(acme))["last_event"] == "queued"
        for named in (suppression_id, ADDRESS):
            assert (await acme.get(f"{SUPPRESSIONS}/{named}")).status_code == 404
            assert (await acme.delete(f"{SUPPRESSIONS}/{named}")).status_code == 404
        removed = await acme.post(f"{SUPPRESSIONS}/batch/remove", json={"ids": [suppression_id]})
        assert removed.json() == {"data": []}
        assert (await acme.get(SUPPRESSIONS)).json()["data"] == []
        assert (await other.get(f"{SUPPRESSIONS}/{ADDRESS}")).status_code == 200


async def test_a_suppression_reads_back_with_all_that_was_said_of_it(acme: httpx.AsyncClient) -> None:
    source, until = str(uuid4()), "2099-01-31T00:00:00Z"
    suppression_id = await suppress(acme, reason="unsubscribe", source_id=source, note="form 7", expires_at=until)
    expected = {
        "object": "suppression", "id": suppression_id, "email": ADDRESS, "origin": "manual", "reason": "unsubscribe",
        "source_id": source, "note": "form 7", "expires_at": until,
    }  # fmt: skip
    for named in (suppression_id, ADDRESS, ADDRESS.upper()):
        read = (await acme.get(f"{SUPPRESSIONS}/{named}")).json()
        assert {name: read[name] for name in expected} == expected
    await suppress(acme, "b@example.net", reason="bounce")
    for origin, count in (("manual", 1), ("bounce", 1), ("complaint", 0)):
        listed = (await acme.get(SUPPRESSIONS, params={"origin": origin})).json()
        assert (listed["object"], listed["has_more"], len(listed["data"])) == ("list", False, count)


async def test_pages_of_suppressions_follow_each_other(acme: httpx.AsyncClient) -> None:
    ids = [await suppress(acme, f"{n}@example.net") for n in range(5)][::-1]
    first = (await acme.get(SUPPRESSIONS, params={"limit": 2})).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (ids[:2], True)
    second = (await acme.get(SUPPRESSIONS, params={"limit": 3, "after": ids[1]})).json()
    assert ([one["id"] for one in second["data"]], second["has_more"]) == (ids[2:], False)
    back = (await acme.get(SUPPRESSIONS, params={"before": ids[2]})).json()
    assert [one["id"] for one in back["data"]] == ids[:2]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("", {"email": "nowhere"}, "/email"),
        ("", {"email": "Maria <maria@example.net>"}, "/email"),
        ("", {"email": ADDRESS, "reason": "boredom"}, "/reason"),
        ("", {"email": ADDRESS, "note": "x\u0007"}, "/note"),
        ("", {"email": ADDRESS, "note": "x" * 201}, "/note"),
        ("", {"email": ADDRESS, "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ("", {"email": ADDRESS, "expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
        ("", {}, "/email"),
        ("/batch/add", {"emails": []}, "/emails"),
        ("/batch/add", {"emails": [ADDRESS] * 101}, "/emails"),
        ("/batch/add", {"emails": [ADDRESS, "nowhere"]}, "/emails/1"),
        ("/batch/remove", {}, ""),
        ("/batch/remove", {"emails": [ADDRESS], "ids": ["1"]}, ""),
        ("/batch/remove", {"emails": ["nowhere"]}, "/emails/0"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_changed(
    acme: httpx.AsyncClient, path: str, body: dict[str, Any], pointer: str
) -> None:
    answer = await acme.post(SUPPRESSIONS + path, json=body)
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert (await acme.get(SUPPRESSIONS)).json()["data"] == []


async def test_a_wrong_query_or_name_is_refused(acme: httpx.AsyncClient) -> None:
    for query in (
        {"origin": "boredom"},
        {"limit": "0"},
        {"after": "x"},
        {"after": str(uuid4()), "before": str(uuid4())},
    ):
        assert (await acme.get(SUPPRESSIONS, params=query)).status_code == 422
    for named in (str(uuid4()), "nobody@example.net", "nowhere"):
        assert (await acme.get(f"{SUPPRESSIONS}/{named}")).status_code == 404
        assert (await acme.delete(f"{SUPPRESSIONS}/{named}")).status_code == 404


async def test_the_sdk_drives_every_operation(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_url", f"{api.url}/v1")
    monkeypatch.setattr(resend, "api_key", api.acme_key)
    suppressions, batch = resend.Suppressions, resend.Suppressions.Batch
    added = await asyncio.to_thread(suppressions.add, {"email": ADDRESS})
    assert (added["object"], added["id"]) == ("suppression", (await suppressions.add_async({"email": ADDRESS}))["id"])
    read = await asyncio.to_thread(suppressions.get, ADDRESS)
    assert (read["id"], read["email"], read["origin"], read["source_id"]) == (added["id"], ADDRESS, "manual", None)
    assert (await suppressions.get_async(added["id"]))["created_at"] == read["created_at"]
    many = await asyncio.to_thread(batch.add, {"emails": ["a@example.net", "A@example.net", "b@example.net"]})
    assert [one["object"] for one in many["data"]] == ["suppression"] * 2
    listed = await asyncio.to_thread(suppressions.list, {"origin": "manual", "limit": 2})
    assert (listed["has_more"], len(listed["data"])) == (True, 2)
    assert len((await suppressions.list_async())["data"]) == 3
    removed = await asyncio.to_thread(batch.remove, {"emails": ["a@example.net", "nobody@example.net"]})
    assert removed["data"] == [{"id": many["data"][0]["id"], "deleted": True, "object": "suppression"}]
    removed = await batch.remove_async({"ids": [many["data"][1]["id"], str(uuid4())]})
    assert [one["id"] for one in removed["data"]] == [many["data"][1]["id"]]
    gone = await asyncio.to_thread(suppressions.remove, ADDRESS)
    assert (gone["object"], gone["id"], gone["deleted"]) == ("suppression", added["id"], True)
    for act in (suppressions.get, suppressions.remove):
        with pytest.raises(ResendError) as missing:
            await asyncio.to_thread(act, ADDRESS)
        assert (missing.value.code, missing.value.error_type) == (404, "not_found")
    with pytest.raises(ResendError) as invalid:
        await suppressions.add_async({"email": "nowhere"})
    assert invalid.value.error_type == "validation_error"
