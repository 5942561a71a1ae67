"""Sending domains over HTTP: through Resend's SDK with one URL changed, and as operators have them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import ResendError, ValidationError

from email_gateway.api.domains import REGION
from email_gateway.settings import Settings
from email_gateway.store.domains import get_domain_by_id
from tests.api.house import Served, email, make_accounts, serving
from tests.dns_server import DnsServer, publish

pytestmark = pytest.mark.anyio

UNKNOWN_ID = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with DnsServer() as server:
        yield server


@pytest.fixture
async def office(shared: Served, dns: DnsServer) -> AsyncIterator[Served]:
    """A server that asks this test's DNS, with two tenants of this test's own."""
    assert isinstance(shared.context.settings, Settings)
    settings = replace(shared.context.settings, dns_resolvers=(("127.0.0.1", dns.port),))
    context = replace(shared.context, settings=settings)
    async with serving(context) as url:
        yield Served(url, context, *await make_accounts(shared.db, uuid.uuid4().hex[:12]))


@pytest.fixture
def sdk(office: Served, monkeypatch: pytest.MonkeyPatch) -> type[resend.Domains]:
    monkeypatch.setattr(resend, "api_url", f"{office.url}/v1")
    monkeypatch.setattr(resend, "api_key", office.acme_key)
    return resend.Domains


async def publish_all(office: Served, dns: DnsServer, domain_id: str) -> None:
    publish(dns, await get_domain_by_id(office.db, uuid.UUID(domain_id)))


async def test_the_sdk_takes_a_domain_from_its_creation_to_its_end(
    sdk: type[resend.Domains], office: Served, dns: DnsServer
) -> None:
    made = await asyncio.to_thread(sdk.create, {"name": "acme.example", "region": "us-east-1"})
    assert (made["name"], made["status"], made["region"]) == ("acme.example", "not_started", REGION)
    records: Any = made["records"]
    assert [(record["record"], record["type"], record["status"]) for record in records] == [
        ("DKIM", "TXT", "not_started")
    ] * 2
    assert (await asyncio.to_thread(sdk.verify, made["id"]))["id"] == made["id"]
    assert (await asyncio.to_thread(sdk.get, made["id"]))["status"] == "pending"

    for record in records:
        dns.texts[record["name"]] = [record["value"]]
    await asyncio.to_thread(sdk.verify, made["id"])
    read: Any = await asyncio.to_thread(sdk.get, made["id"])
    assert (read["status"], {record["status"] for record in read["records"]}) == ("verified", {"verified"})

    dns.texts.clear()
    await asyncio.to_thread(sdk.verify, made["id"])
    read = await asyncio.to_thread(sdk.get, made["id"])
    assert (read["status"], {record["status"] for record in read["records"]}) == ("failed", {"failed"})

    changed = await asyncio.to_thread(sdk.update, {"id": made["id"], "open_tracking": False, "tls": "opportunistic"})
    assert changed["id"] == made["id"]
    removed = await asyncio.to_thread(sdk.remove, made["id"])
    assert (removed["id"], removed["deleted"]) == (made["id"], True)
    with pytest.raises(ResendError) as gone:
        await asyncio.to_thread(sdk.get, made["id"])
    assert (gone.value.code, gone.value.error_type) == (404, "not_found")


async def test_the_sdk_lists_page_by_page(sdk: type[resend.Domains]) -> None:
    made = [(await asyncio.to_thread(sdk.create, {"name": f"{name}.example"}))["id"] for name in ("a1", "b2", "c3")]
    listed = await asyncio.to_thread(sdk.list, {"limit": 2})
    assert ([domain["id"] for domain in listed["data"]], listed["has_more"]) == ([made[2], made[1]], True)
    listed = await asyncio.to_thread(sdk.list, {"after": made[1]})
    assert ([domain["id"] for domain in listed["data"]], listed["has_more"]) == ([made[0]], False)


async def test_the_asynchronous_sdk_does_the_same(sdk: type[resend.Domains]) -> None:
    made = await sdk.create_async({"name": "acme.example"})
    await sdk.verify_async(made["id"])
    assert (await sdk.get_async(made["id"]))["status"] == "pending"
    assert [domain["id"] for domain in (await sdk.list_async())["data"]] == [made["id"]]
    assert (await sdk.update_async({"id": made["id"]}))["id"] == made["id"]
    assert (await sdk.remove_async(made["id"]))["deleted"]


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "localhost"},
        {"name": "acme.example", "open_tracking": True},
        {"name": "acme.example", "click_tracking": True},
        {"name": "acme.example", "tracking_subdomain": "links"},
        {"name": "acme.example", "tls": "enforced"},
        {"name": "acme.example", "custom_return_path": "send"},
        {"name": "acme.example", "capabilities": {"receiving": "enabled"}},
        {"name": "acme.example", "capabilities": {"sending": "disabled"}},
        {"name": "acme.example", "colour": "blue"},
    ],
)
async def test_what_would_not_happen_is_refused_as_the_sdks_own_error(
    sdk: type[resend.Domains], asked: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        await asyncio.to_thread(sdk.create, asked)  # type: ignore[arg-type]
    assert (await asyncio.to_thread(sdk.list))["data"] == []


async def test_a_domain_is_added_once(sdk: type[resend.Domains]) -> None:
    await asyncio.to_thread(sdk.create, {"name": "acme.example"})
    with pytest.raises(ResendError) as refused:
        await asyncio.to_thread(sdk.create, {"name": "ACME.example"})
    assert (refused.value.code, refused.value.error_type) == (409, "conflict")


async def test_another_tenants_domain_is_not_found(office: Served) -> None:
    async with office.client() as acme, office.client(office.other_key) as other:
        made = (await acme.post("/v1/domains", json={"name": "acme.example"})).json()["id"]
        for method, path, body in (
            ("GET", f"/v1/domains/{made}", None),
            ("PATCH", f"/v1/domains/{made}", {}),
            ("DELETE", f"/v1/domains/{made}", None),
            ("POST", f"/v1/domains/{made}/verify", None),
        ):
            assert (await other.request(method, path, json=body)).status_code == 404
        assert (await other.get("/v1/domains")).json()["data"] == []
        assert (await acme.get(f"/v1/domains/{made}")).status_code == 200
        assert (await acme.get(f"/v1/domains?after={made}&before={made}")).status_code == 422


async def test_a_dns_that_does_not_answer_is_503(office: Served, dns: DnsServer) -> None:
    async with office.client() as acme:
        made = (await acme.post("/v1/domains", json={"name": "acme.example"})).json()
        dns.failing |= {record["name"] for record in made["records"]}
        answer = await acme.post(f"/v1/domains/{made['id']}/verify")
        assert (answer.status_code, answer.json()["code"]) == (503, "dns_unavailable")
        assert "retry-after" in answer.headers


async def test_an_operator_adds_verifies_rotates_and_removes(office: Served, dns: DnsServer) -> None:
    async with office.admin() as admin:
        wanted = {"tenant_id": str(office.acme), "name": "acme.example"}
        made = await admin.post("/admin/domains", json=wanted)
        assert (made.status_code, made.json()["state"]) == (201, "pending")
        path = f"/admin/domains/{made.json()['id']}"
        assert "Publish" in made.json()["to_do"]

        seen = (await admin.post(f"{path}/verify")).json()
        assert [record["shown"] for record in seen["records"]] == ["missing", "missing"]
        await publish_all(office, dns, made.json()["id"])
        dns.texts["acme.example"] = ["v=spf1 include:amazonses.com ~all"]
        seen = (await admin.post(f"{path}/verify")).json()
        assert (seen["domain"]["state"], [record["shown"] for record in seen["records"]]) == ("verified", ["right"] * 2)
        assert (seen["spf"]["shown"], seen["dmarc"]["shown"]) == ("right", "missing")
        assert seen["spf"]["value"] == "v=spf1 include:amazonses.com ~all"

        rotated = (await admin.post(f"{path}/rotate")).json()
        assert [key["state"] for key in rotated["keys"]] == ["active", "active", "pending", "pending"]
        assert (await admin.post(f"{path}/rotate")).status_code == 409
        await publish_all(office, dns, made.json()["id"])
        seen = (await admin.post(f"{path}/verify")).json()
        assert [key["state"] for key in seen["domain"]["keys"]] == ["retiring", "retiring", "active", "active"]
        assert "retiring keys until" in seen["domain"]["to_do"]

        listed = (await admin.get(f"/admin/domains?tenant_id={office.acme}&limit=1")).json()
        assert [one["id"] for one in listed["data"]] == [made.json()["id"]]
        assert (await admin.get(f"/admin/domains?tenant_id={office.other}")).json()["data"] == []
        assert (await admin.get(path)).json() == seen["domain"]
        assert (await admin.delete(path)).json()["deleted"]
        assert (await admin.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/admin/domains", {"tenant_id": UNKNOWN_ID, "name": "acme.example"}, 404),
        ("POST", "/admin/domains", {"tenant_id": "x", "name": "acme.example"}, 422),
        ("POST", "/admin/domains", {"name": "acme.example"}, 422),
        ("GET", f"/admin/domains/{UNKNOWN_ID}", None, 404),
        ("GET", "/admin/domains/x", None, 404),
        ("DELETE", f"/admin/domains/{UNKNOWN_ID}", None, 404),
        ("POST", f"/admin/domains/{UNKNOWN_ID}/verify", None, 404),
        ("POST", f"/admin/domains/{UNKNOWN_ID}/rotate", None, 404),
        ("GET", "/admin/domains?tenant_id=x", None, 422),
        ("GET", "/admin/domains?after=x", None, 422),
    ],
)
async def test_what_is_not_there_or_no_id_is_said(
    office: Served, method: str, path: str, body: Any, status: int
) -> None:
    async with office.admin() as admin:
        assert (await admin.request(method, path, json=body)).status_code == status


async def test_no_answer_holds_a_private_key(office: Served) -> None:
    async with office.admin() as admin, office.client() as acme:
        made: httpx.Response = await acme.post("/v1/domains", json={"name": "acme.example"})
        shown = await admin.get(f"/admin/domains/{made.json()['id']}")
    for row in await office.db.fetch("SELECT dkim_key_id, tenant_id, sealed_private_key AS sealed FROM dkim_key"):
        for text in (made.text, shown.text):
            assert row["sealed"].hex() not in text
            assert "private" not in text


@pytest.fixture
async def strict(office: Served) -> AsyncIterator[Served]:
    """The same, where senders' domains must be verified."""
    assert isinstance(office.context.settings, Settings)
    context = replace(office.context, settings=replace(office.context.settings, require_verified_domains=True))
    async with serving(context) as url:
        yield replace(office, url=url, context=context)


async def test_mail_is_accepted_from_verified_domains_only(strict: Served, dns: DnsServer) -> None:
    async with strict.client() as acme, strict.client(strict.other_key) as other:
        made = (await acme.post("/v1/domains", json={"name": "acme.example"})).json()
        refused = await acme.post("/v1/emails", json=email())
        assert (refused.status_code, refused.json()["name"]) == (403, "domain_not_verified")
        assert "POST /v1/domains" in refused.json()["message"]
        assert "acme.example" not in refused.text

        await publish_all(strict, dns, made["id"])
        await acme.post(f"/v1/domains/{made['id']}/verify")
        await until(acme, 202)
        assert (await acme.post("/v1/emails", json=email(from_="a@billing.acme.example"))).status_code == 202
        assert (await acme.post("/v1/emails", json=email(from_="a@notacme.example"))).status_code == 403
        assert (await other.post("/v1/emails", json=email())).status_code == 403

        await acme.delete(f"/v1/domains/{made['id']}")
        await until(acme, 403)


async def until(client: httpx.AsyncClient, status: int) -> None:
    """Send until the answer is this one: a process follows within a second, and waiting for it is what is tested."""
    async with asyncio.timeout(20):
        while (await client.post("/v1/emails", json=email())).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_one_sender_of_a_batch_that_is_not_verified_refuses_all_of_it(strict: Served, dns: DnsServer) -> None:
    async with strict.client() as acme:
        made = (await acme.post("/v1/domains", json={"name": "acme.example"})).json()
        await publish_all(strict, dns, made["id"])
        await acme.post(f"/v1/domains/{made['id']}/verify")
        await until(acme, 202)
        batch = [email(), email(from_="a@other.example")]
        for mode in ("strict", "permissive"):
            answer = await acme.post("/v1/emails/batch", json=batch, headers={"x-batch-validation": mode})
            assert (answer.status_code, answer.json()["code"]) == (403, "domain_not_verified")


async def test_a_large_mail_is_asked_for_its_domain_too(strict: Served) -> None:
    file = {"filename": "a.bin", "content": "A" * 2_000_000}
    async with strict.client() as acme:
        assert (await acme.post("/v1/emails", json=email(attachments=[file]))).status_code == 403


async def test_the_sdk_raises_its_own_error_for_a_domain_that_is_not_verified(
    strict: Served, sdk: type[resend.Domains], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resend, "api_url", f"{strict.url}/v1")
    params: Any = email()
    with pytest.raises(ResendError) as refused:
        await asyncio.to_thread(resend.Emails.send, params)
    assert (refused.value.code, refused.value.error_type) == (403, "domain_not_verified")
