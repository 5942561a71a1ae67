"""API keys under /v1/api-keys, driven by Resend's own SDKs: Python, synchronous and not, and Node."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import MissingRequiredFieldsError, ResendError, ValidationError

from email_gateway.store.accounts import SENDING_ACCESS, create_api_key, list_api_keys
from email_gateway.store.audit import list_audit
from tests.api.house import Served, email
from tests.node import run_node

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def sdk(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_url", f"{api.url}/v1")
    monkeypatch.setattr(resend, "api_key", api.acme_key)


async def until_refused(client: httpx.AsyncClient) -> httpx.Response:
    """Return the first answer that is not 200, once this process has looked the key up again."""
    async with asyncio.timeout(20):
        while (answer := await client.get("/v1/emails")).status_code == 200:  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(0.1)
    return answer


async def test_the_python_sdk_makes_lists_renames_and_removes_a_key(api: Served) -> None:
    made = await asyncio.to_thread(resend.ApiKeys.create, {"name": "shop", "permission": "full_access"})
    listed = await asyncio.to_thread(resend.ApiKeys.list)
    assert [key["name"] for key in listed["data"]] == ["shop", "test"], "the newest first"
    assert (listed["object"], listed["has_more"], listed["data"][0]["id"]) == ("list", False, made["id"])
    assert made["token"] not in str(listed)

    async with api.client(made["token"]) as client:
        assert (await client.get("/v1/emails")).status_code == 200
        renamed = await asyncio.to_thread(resend.ApiKeys.update, {"id": made["id"], "name": "web shop"})
        assert (renamed["object"], renamed["id"]) == ("api_key", made["id"])
        assert (await asyncio.to_thread(resend.ApiKeys.list))["data"][0]["name"] == "web shop"
        removed = await asyncio.to_thread(resend.ApiKeys.remove, made["id"])
        assert (removed["object"], removed["id"], removed["deleted"]) == ("api_key", made["id"], True)
        assert (await until_refused(client)).status_code == 403
    again = await asyncio.to_thread(resend.ApiKeys.remove, made["id"])
    assert again["deleted"], "a repeated request after a lost answer is no error"
    assert [key["name"] for key in (await asyncio.to_thread(resend.ApiKeys.list))["data"]] == ["test"]


async def test_the_asynchronous_python_sdk_does_the_same() -> None:
    made = await resend.ApiKeys.create_async(
        {"name": "shop", "permission": "sending_access", "domain_id": "acme.example"}
    )
    listed: Any = await resend.ApiKeys.list_async({"limit": 1})
    assert listed["has_more"]
    assert (listed["data"][0]["permission"], listed["data"][0]["domain_id"]) == ("sending_access", "acme.example")
    assert (await resend.ApiKeys.update_async({"id": made["id"], "name": "other"}))["id"] == made["id"]
    assert (await resend.ApiKeys.remove_async(made["id"]))["deleted"]


@pytest.mark.needs("node", "npm")
async def test_the_node_sdk_does_the_same(api: Served) -> None:
    answers = await run_node(
        """
        const made = await resend.apiKeys.create({ name: 'node', permission: 'sending_access', domain_id: 'acme.example' });
        const listed = await resend.apiKeys.list({ limit: 100 });
        const removed = await resend.apiKeys.remove(made.data.id);
        const missing = await resend.apiKeys.remove('00000000-0000-7000-8000-000000000000');
        const nameless = await resend.apiKeys.create({});
        return { made, listed, removed, missing, nameless };
        """,
        url=api.url,
        api_key=api.acme_key,
    )
    assert answers["made"]["error"] is None
    assert answers["made"]["data"]["token"].startswith("eg_")
    assert [key["name"] for key in answers["listed"]["data"]["data"]] == ["node", "test"]
    assert answers["removed"]["data"]["deleted"] is True
    assert (answers["missing"]["data"], answers["missing"]["error"]["name"]) == (None, "not_found")
    assert answers["nameless"]["error"]["name"] == "missing_required_field"


async def test_errors_are_the_sdks_own() -> None:
    nameless: Any = {}
    with pytest.raises(MissingRequiredFieldsError):
        await asyncio.to_thread(resend.ApiKeys.create, nameless)
    for params in (
        {"name": ""},
        {"name": " "},
        {"name": "a\u202eb"},
        {"name": "n" * 101},
        {"name": "a", "permission": "admin"},
        {"name": "a", "domain_id": "acme.example"},
        {"name": "a", "permission": "sending_access", "domain_id": "nowhere"},
        {"name": "a", "expires_at": "2030-01-01T00:00:00Z"},
    ):
        with pytest.raises(ValidationError):
            await asyncio.to_thread(resend.ApiKeys.create, params)  # type: ignore[arg-type]
    with pytest.raises(ResendError) as missing:
        await asyncio.to_thread(resend.ApiKeys.remove, "00000000-0000-7000-8000-000000000000")
    assert (missing.value.code, missing.value.error_type) == (404, "not_found")


async def test_a_page_goes_both_ways(acme: httpx.AsyncClient) -> None:
    made = [(await acme.post("/v1/api-keys", json={"name": f"key {number}"})).json()["id"] for number in range(4)]
    newest = (await acme.get("/v1/api-keys", params={"limit": 2})).json()
    assert ([key["id"] for key in newest["data"]], newest["has_more"]) == (made[:1:-1], True)
    older = (await acme.get("/v1/api-keys", params={"limit": 2, "after": made[2]})).json()
    assert ([key["id"] for key in older["data"]], older["has_more"]) == (made[1::-1], True)
    newer = (await acme.get("/v1/api-keys", params={"limit": 2, "before": made[0]})).json()
    assert ([key["id"] for key in newer["data"]], newer["has_more"]) == (made[2:0:-1], True)
    refused = await acme.get("/v1/api-keys", params={"after": made[0], "before": made[0]})
    assert refused.status_code == 422


async def test_a_key_gives_no_more_than_it_has_itself(api: Served) -> None:
    ends = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    maker = await create_api_key(
        api.db, api.acme, "maker", actor="test", allowed_networks=[ip_network("127.0.0.0/8")], expires_at=ends
    )
    async with api.client(maker.secret) as client:
        made = (await client.post("/v1/api-keys", json={"name": "made"})).json()
    key = next(key for key in await list_api_keys(api.db, api.acme) if str(key.api_key_id) == made["id"])
    assert key.allowed_networks == (ip_network("127.0.0.0/8"),)
    assert key.expires_at == ends
    sender = await create_api_key(api.db, api.acme, "sender", actor="test", scopes=[SENDING_ACCESS])
    async with api.client(sender.secret) as client:
        for method, path in (("POST", ""), ("GET", ""), ("PATCH", f"/{made['id']}"), ("DELETE", f"/{made['id']}")):
            answer = await client.request(method, f"/v1/api-keys{path}", json={"name": "more"})
            assert (answer.status_code, answer.json()["name"]) == (403, "invalid_api_key")


async def test_a_key_may_delete_itself(api: Served, acme: httpx.AsyncClient) -> None:
    itself = (await acme.get("/v1/api-keys")).json()["data"][0]["id"]
    assert (await acme.delete(f"/v1/api-keys/{itself}")).status_code == 200
    assert (await until_refused(acme)).status_code == 403


async def test_a_key_is_bound_to_a_domain_by_the_domains_id_too(client: httpx.AsyncClient) -> None:
    domain = (await client.post("/v1/domains", json={"name": "bound.example"})).json()
    wanted = {"name": "by id", "permission": "sending_access", "domain_id": domain["id"]}
    made = (await client.post("/v1/api-keys", json=wanted)).json()
    (key,) = [key for key in (await client.get("/v1/api-keys")).json()["data"] if key["id"] == made["id"]]
    assert key["domain_id"] == "bound.example"


async def test_a_key_is_bound_to_no_domain_that_is_not_the_tenants(client: httpx.AsyncClient) -> None:
    wanted = {"name": "x", "permission": "sending_access", "domain_id": str(uuid.uuid4())}
    answer = await client.post("/v1/api-keys", json=wanted)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/domain_id")


async def test_a_key_of_a_domain_sends_from_that_domain_only(api: Served, acme: httpx.AsyncClient) -> None:
    wanted = {"name": "bills", "permission": "sending_access", "domain_id": "Acme.EXAMPLE"}
    made = (await acme.post("/v1/api-keys", json=wanted)).json()
    before = len((await acme.get("/v1/emails")).json()["data"])
    async with api.client(made["token"]) as bound:
        for sender in ("billing@acme.example", "Bills <billing@ACME.example>"):
            assert (await bound.post("/v1/emails", json=email(from_=sender))).status_code == 202
        for sender in ("a@sub.acme.example", "a@acme.example.evil.example", "a@other.example"):
            answer = await bound.post("/v1/emails", json=email(from_=sender))
            assert (answer.status_code, answer.json()["name"]) == (403, "invalid_api_key")
            assert "acme.example" in answer.json()["message"]
        mixed = [email(), email(from_="a@other.example")]
        for mode in ("strict", "permissive"):
            answer = await bound.post("/v1/emails/batch", json=mixed, headers={"x-batch-validation": mode})
            assert answer.status_code == 403
        large = email(from_="a@other.example", text="x" * 3_000_000)
        assert (await bound.post("/v1/emails", json=large)).status_code == 403
    assert len((await acme.get("/v1/emails")).json()["data"]) == before + 2, "what was refused is not stored"


async def test_every_act_is_in_the_audit_by_the_key_that_did_it(api: Served, acme: httpx.AsyncClient) -> None:
    itself = (await acme.get("/v1/api-keys")).json()["data"][0]["id"]
    made = (await acme.post("/v1/api-keys", json={"name": "a"})).json()["id"]
    await acme.patch(f"/v1/api-keys/{made}", json={"name": "b"})
    await acme.delete(f"/v1/api-keys/{made}")
    acts = [(one.actor, one.action) for one in await list_audit(api.db) if one.subject == made]
    assert acts == [
        (f"api_key:{itself}", action) for action in ("api_key.revoked", "api_key.renamed", "api_key.created")
    ]
