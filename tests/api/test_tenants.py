"""Tenants and their keys under /admin/tenants."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from email_gateway.mail.deliveries import COMMON_LANE
from email_gateway.store.accounts import create_api_key
from email_gateway.store.audit import list_audit
from email_gateway.store.deliveries import Turns, claim
from email_gateway.store.key_text import is_mistyped
from tests.api.house import Served, email, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def admin(api: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with api.admin() as client:
        yield client


@pytest.fixture
def keys_of_acme(api: Served) -> str:
    return f"/admin/tenants/{api.acme}/api-keys"


async def until(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """Return the first answer to a list of mail with this status."""
    async with asyncio.timeout(20):
        while (answer := await client.get("/v1/emails")).status_code != status:  # noqa: ASYNC110 - nothing to await
            await asyncio.sleep(0.05)
    return answer


async def test_a_tenant_is_made_shown_listed_and_renamed(api: Served, admin: httpx.AsyncClient) -> None:
    name = f"billing {uuid.uuid4().hex}"
    made = await admin.post("/admin/tenants", json={"name": name})
    assert made.status_code == 201
    tenant = made.json()
    assert (tenant["object"], tenant["name"], tenant["suspended_at"]) == ("tenant", name, None)
    assert (await admin.get(f"/admin/tenants/{tenant['id']}")).json() == tenant
    listed = (await admin.get("/admin/tenants")).json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert tenant in listed["data"]
    renamed = await admin.patch(f"/admin/tenants/{tenant['id']}", json={"name": f"{name} 2"})
    assert renamed.json() == {**tenant, "name": f"{name} 2"}
    acts = [(one.actor, one.action) for one in await list_audit(api.db) if str(one.tenant_id) == tenant["id"]]
    assert acts == [("admin-key", "tenant.renamed"), ("admin-key", "tenant.created")]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\u202eb", "n" * 101, 7, None])
async def test_a_name_that_nobody_could_use_is_refused(admin: httpx.AsyncClient, api: Served, name: Any) -> None:
    for method, path in (("POST", ""), ("PATCH", f"/{api.acme}")):
        answer = await admin.request(method, f"/admin/tenants{path}", json={"name": name})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")


async def test_a_name_that_is_taken_is_a_conflict(admin: httpx.AsyncClient, api: Served) -> None:
    taken = (await admin.get(f"/admin/tenants/{api.other}")).json()["name"]
    for method, path in (("POST", ""), ("PATCH", f"/{api.acme}")):
        answer = await admin.request(method, f"/admin/tenants{path}", json={"name": taken})
        assert (answer.status_code, answer.json()["name"]) == (409, "conflict")


async def test_a_key_is_made_as_it_is_asked_for_and_its_token_is_shown_once(
    api: Served, admin: httpx.AsyncClient, keys_of_acme: str
) -> None:
    ends = datetime.now(UTC) + timedelta(days=30)
    wanted = {
        "name": "bills",
        "scopes": ["sending_access"],
        "allowed_networks": ["127.0.0.0/8", "2001:db8::/32"],
        "domain_id": "acme.example",
        "expires_at": ends.isoformat(),
    }
    made = await admin.post(keys_of_acme, json=wanted)
    assert made.status_code == 201
    token, key = made.json()["token"], made.json()["key"]
    assert token.startswith(key["prefix"])
    assert not is_mistyped(token.encode())
    assert {**key, **wanted, "expires_at": key["expires_at"]} == key
    assert datetime.fromisoformat(key["expires_at"]) == ends
    assert (key["last_used_at"], key["revoked_at"], key["replaced_by"]) == (None, None, None)
    async with api.client(token) as client:
        assert (await client.post("/v1/emails", json=email())).status_code == 202
        assert (await client.get("/v1/emails")).status_code == 403
    async with asyncio.timeout(20):
        while True:
            listed = (await admin.get(keys_of_acme)).json()["data"]
            if listed[-1]["last_used_at"] is not None:
                break
            await asyncio.sleep(0.02)
    assert listed[-1] == {**key, "last_used_at": listed[-1]["last_used_at"]}
    assert token not in str(listed)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["admin"]}, "/scopes/0"),
        ({"allowed_networks": ["10.0.0.1/8"]}, "/allowed_networks/0"),
        ({"allowed_networks": ["10.0.0.0/8", "anywhere"]}, "/allowed_networks/1"),
        ({"domain_id": "acme.example"}, "/domain_id"),
        ({"domain_id": "acme.example", "scopes": ["sending_access", "full_access"]}, "/domain_id"),
        ({"domain_id": "not a domain", "scopes": ["sending_access"]}, "/domain_id"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
        ({"permission": "full_access"}, "/permission"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(
    admin: httpx.AsyncClient, keys_of_acme: str, change: dict[str, Any], pointer: str
) -> None:
    answer = await admin.post(keys_of_acme, json={"name": "a", **change})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert len((await admin.get(keys_of_acme)).json()["data"]) == 1


async def test_a_rotation_leaves_both_keys_open_for_the_overlap(
    api: Served, admin: httpx.AsyncClient, keys_of_acme: str
) -> None:
    old = (await admin.get(keys_of_acme)).json()["data"][0]
    rotated = await admin.post(f"{keys_of_acme}/{old['id']}/rotate")
    assert rotated.status_code == 201
    old_now, new = (await admin.get(keys_of_acme)).json()["data"]
    assert (new, old_now["replaced_by"]) == (rotated.json()["key"], new["id"])
    overlap = datetime.fromisoformat(old_now["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert overlap == timedelta(hours=24)
    async with api.client() as before, api.client(rotated.json()["token"]) as after:
        assert (await before.get("/v1/emails")).status_code == 200
        assert (await after.get("/v1/emails")).status_code == 200
        again = await admin.post(f"{keys_of_acme}/{old['id']}/rotate", json={"overlap_seconds": 5})
        assert (again.status_code, again.json()["name"]) == (409, "conflict")


async def test_a_rotation_without_overlap_ends_the_old_key_at_once(
    api: Served, admin: httpx.AsyncClient, keys_of_acme: str
) -> None:
    old = (await admin.get(keys_of_acme)).json()["data"][0]
    async with api.client() as client:
        assert (await client.get("/v1/emails")).status_code == 200
        rotated = await admin.post(f"{keys_of_acme}/{old['id']}/rotate", json={"overlap_seconds": 0})
        await until(client, 403)
    async with api.client(rotated.json()["token"]) as client:
        assert (await client.get("/v1/emails")).status_code == 200


@pytest.mark.parametrize("seconds", [-1, 30 * 24 * 3600 + 1, 1.5, "1"])
async def test_an_overlap_out_of_bounds_is_refused(admin: httpx.AsyncClient, keys_of_acme: str, seconds: Any) -> None:
    old = (await admin.get(keys_of_acme)).json()["data"][0]
    answer = await admin.post(f"{keys_of_acme}/{old['id']}/rotate", json={"overlap_seconds": seconds})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/overlap_seconds")


async def test_a_revoked_key_opens_nothing_and_stays_in_the_list(
    api: Served, admin: httpx.AsyncClient, keys_of_acme: str
) -> None:
    key = (await admin.get(keys_of_acme)).json()["data"][0]
    async with api.client() as client:
        assert (await client.get("/v1/emails")).status_code == 200
        revoked = await admin.delete(f"{keys_of_acme}/{key['id']}")
        assert revoked.status_code == 200
        assert revoked.json()["revoked_at"] is not None
        await until(client, 403)
    assert (await admin.delete(f"{keys_of_acme}/{key['id']}")).json() == revoked.json()
    assert (await admin.get(keys_of_acme)).json()["data"] == [revoked.json()]


async def test_a_suspended_tenant_is_refused_by_every_process_and_counts_as_no_wrong_key(
    api: Served, admin: httpx.AsyncClient
) -> None:
    async with (
        serving(api.context) as elsewhere,
        api.client() as here,
        httpx.AsyncClient(base_url=elsewhere, headers=here.headers) as there,
    ):
        for client in (here, there):
            assert (await client.post("/v1/emails", json=email())).status_code == 202
        suspended = await admin.post(f"/admin/tenants/{api.acme}/suspend", json={"reason": "ticket 7"})
        assert suspended.json()["suspended_at"] is not None
        for client in (here, there):
            await until(client, 403)
            for _ in range(15):
                answer = await client.post("/v1/emails", json=email())
                assert (answer.status_code, answer.json()["name"]) == (403, "invalid_api_key")
            assert "suspended" in answer.json()["message"]
        fresh = await create_api_key(api.db, api.other, "fresh", actor="test")
        async with api.client(fresh.secret) as other:
            assert (await other.get("/v1/emails")).status_code == 200
        assert (await admin.post(f"/admin/tenants/{api.acme}/resume")).json()["suspended_at"] is None
        for client in (here, there):
            await until(client, 200)


async def test_what_was_accepted_before_a_suspension_is_still_delivered(alone: Served) -> None:
    async with alone.client() as acme, alone.admin() as admin:
        message_id = (await acme.post("/v1/emails", json=email())).json()["id"]
        await admin.post(f"/admin/tenants/{alone.acme}/suspend")
    taken = await claim(alone.db, Turns({COMMON_LANE: 10}), lease_for=timedelta(seconds=20))
    assert [str(claims.message_id) for claims in taken.claims] == [message_id]


@pytest.mark.parametrize("body", [{"reason": 7}, {"reason": "r" * 201}, {"because": "x"}])
async def test_a_suspension_reads_a_reason_and_nothing_else(
    admin: httpx.AsyncClient, api: Served, body: dict[str, Any]
) -> None:
    assert (await admin.post(f"/admin/tenants/{api.acme}/suspend", json=body)).status_code == 422
    assert (await admin.get(f"/admin/tenants/{api.acme}")).json()["suspended_at"] is None
