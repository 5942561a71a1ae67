"""No tenant reaches what is another's: every route with another tenant's ids, with both walls and without the first.

The first wall is the `tenant_id = $1` of each statement. The second is row-level security, which must hold alone.
"""

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID

import httpx
import pytest

from email_gateway.api import ApiContext
from email_gateway.api.access import OPERATORS
from email_gateway.api.routes import ROUTES
from email_gateway.api.routing import Access, Route
from email_gateway.store.accounts import create_api_key
from email_gateway.store.database import Database, Record, TenantDatabase, Transaction
from tests.api.conftest import context_over
from tests.api.house import Served, email, make_accounts, serving
from tests.conftest import at

pytestmark = pytest.mark.anyio

KEYED = [route for route in ROUTES if route.access in (Access.FULL, Access.SENDING)]
WITH_IDS = [route for route in KEYED if route.path_parameters]
ADMIN_WITH_IDS = [route for route in ROUTES if route.access in OPERATORS and len(route.path_parameters) > 1]
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OUTSIDER = "only.other@example.net"

Make = Callable[[httpx.AsyncClient], Awaitable[str]]


async def send(client: httpx.AsyncClient) -> str:
    mail = email(
        to=[OUTSIDER], attachments=[{"filename": "a.txt", "content": "QQ=="}], tags=[{"name": "a", "value": "b"}]
    )
    return str((await client.post("/v1/emails", json=mail)).json()["id"])


async def make_key(client: httpx.AsyncClient) -> str:
    return str((await client.post("/v1/api-keys", json={"name": OUTSIDER})).json()["id"])


async def add_domain(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/domains", json={"name": f"only-other-{uuid.uuid4().hex}.example"})
    return str(answer.json()["id"])


async def suppress(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/suppressions", json={"email": f"only.other.{uuid.uuid4().hex}@example.net"})
    return str(answer.json()["id"])


async def add_template(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/templates", json={"name": f"only.other {uuid.uuid4().hex}", "html": "x"})
    return str(answer.json()["id"])


async def add_webhook(client: httpx.AsyncClient) -> str:
    hook = {"endpoint": "https://only-other.example/", "events": ["email.sent"]}
    return str((await client.post("/v1/webhooks", json=hook)).json()["id"])


async def find_hook(client: httpx.AsyncClient) -> str:
    return str(((await client.get("/v1/webhooks")).json()["data"] or [{"id": await add_webhook(client)}])[0]["id"])


async def find_event(client: httpx.AsyncClient) -> str:
    """Return an event of the webhook."""
    hook = await find_hook(client)
    await send(client)
    return str((await client.get(f"/v1/webhooks/{hook}/events")).json()["data"][0]["id"])


async def find_attachment(client: httpx.AsyncClient) -> str:
    """Return the file of the message that was sent last."""
    newest = (await client.get("/v1/emails")).json()["data"][0]["id"]
    return str((await client.get(f"/v1/emails/{newest}/attachments")).json()["data"][0]["id"])


# How another tenant comes to an id of each kind, and what a route reads that reads a body.
MAKERS: dict[str, Make] = {
    "email_id": send,
    "attachment_id": find_attachment,
    "api_key_id": make_key,
    "domain_id": add_domain,
    "suppression": suppress,
    "template_id": add_template,
    "webhook_id": find_hook,
    "event_id": find_event,
}
BODIES: dict[str, Any] = {
    "PATCH /v1/emails/{email_id}": {"scheduled_at": "in 1 hour"},
    "PATCH /v1/api-keys/{api_key_id}": {"name": "taken over"},
    "PATCH /v1/templates/{template_id}": {"name": "taken over"},
    "PATCH /v1/webhooks/{webhook_id}": {"status": "disabled"},
    "PATCH /v1/domains/{domain_id}": {"tls": "opportunistic"},
}
# Routes of tenants whose paths name nothing, and how they are asked with another tenant's id of a kind where they take one.
WITHOUT_IDS: dict[str, tuple[Make, Callable[[str], dict[str, Any]]] | None] = {
    "POST /v1/emails": None,
    "POST /v1/emails/batch": None,
    "GET /v1/emails": (send, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
    "POST /v1/emails/search": (send, lambda cursor: {"json": {"address": OUTSIDER, "before": cursor}}),
    "POST /v1/domains": None,
    "GET /v1/domains": (add_domain, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
    "POST /v1/suppressions": None,
    "GET /v1/suppressions": (suppress, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
    "POST /v1/suppressions/batch/add": None,
    "POST /v1/suppressions/batch/remove": None,
    "GET /v1/usage": None,
    "POST /v1/templates": None,
    "GET /v1/templates": (add_template, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
    "POST /v1/webhooks": None,
    "GET /v1/webhooks": (add_webhook, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
    "POST /v1/api-keys": None,
    "GET /v1/api-keys": (make_key, lambda cursor: {"params": {"before": cursor, "limit": 100}}),
}


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


class WithoutFirstWall(Transaction):
    """Runs every statement as if its author had forgotten the tenant."""

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        return await super().fetch(without_tenant(sql), *args)

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        return await super().fetch_one(without_tenant(sql), *args)

    async def execute(self, sql: str, *args: object) -> str:
        return await super().execute(without_tenant(sql), *args)


def without_tenant(sql: str) -> str:
    return re.sub(r"\b(?:\w+\.)?tenant_id = (\$\d+)", r"\1::uuid IS NOT NULL", sql)


class SecondWallAlone(TenantDatabase):
    """A tenant's database as the gateway has it, whose statements have all forgotten the tenant."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            yield WithoutFirstWall(transaction._connection)


class NoWall(SecondWallAlone):
    """The same without row-level security: what the tests below must be able to find."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            await transaction.execute("RESET ROLE")
            yield transaction


class Walled(Database):
    """The whole database; it gives the tenants of `askers` a database of that class, and others the usual one."""

    askers: ClassVar[dict[UUID, type[TenantDatabase]]] = {}

    def as_tenant(self, tenant_id: UUID) -> TenantDatabase:
        return self.askers.get(tenant_id, TenantDatabase)(self._pool, self._connector, tenant_id)


@pytest.fixture(scope="module")
async def context(postgres_url: str, template: str) -> AsyncIterator[ApiContext]:
    name = f"test_isolation_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    db = await Walled.connect(at(postgres_url, name))
    async with context_over(db) as context:
        yield context
    await db.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture(scope="module")
async def url(context: ApiContext) -> AsyncIterator[str]:
    async with serving(context) as url:
        yield url


@pytest.fixture(params=["both walls", "the second wall alone"])
async def served(request: pytest.FixtureRequest, context: ApiContext, url: str) -> Served:
    return await serve_to(context, url, TenantDatabase if request.param == "both walls" else SecondWallAlone)


@pytest.fixture
async def open_to_all(context: ApiContext, url: str) -> Served:
    return await serve_to(context, url, NoWall)


async def serve_to(context: ApiContext, url: str, tenants: type[TenantDatabase]) -> Served:
    """Make two new tenants; what acme asks runs on a database of this class."""
    accounts = await make_accounts(context.db, uuid.uuid4().hex[:12])
    Walled.askers[accounts[0]] = tenants
    return Served(url, context, *accounts)


async def ask_for_anothers(served: Served, route: Route) -> httpx.Response:
    """Ask as acme for what belongs to the other tenant."""
    async with served.client(served.other_key) as other, served.client() as acme:
        path = route.path
        for name in route.path_parameters:
            path = path.replace(f"{{{name}}}", await MAKERS[name](other))
        return await acme.request(route.method, path, json=BODIES.get(name_of(route), {}))


def test_every_route_of_tenants_is_in_the_matrix() -> None:
    assert {name_of(route) for route in KEYED if not route.path_parameters} == set(WITHOUT_IDS)
    for route in WITH_IDS:
        assert set(route.path_parameters) <= set(MAKERS), (
            f"say above how another tenant comes to an id for {route.path}"
        )
        assert route.body is None or route.is_body_optional or name_of(route) in BODIES, f"say what {route.path} reads"
    assert len(WITH_IDS) > 3


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
async def test_another_tenants_id_is_404(served: Served, route: Route) -> None:
    answer = await ask_for_anothers(served, route)
    assert (answer.status_code, answer.json()["name"]) == (404, "not_found")
    async with served.client(served.other_key) as other:  # and nothing has happened to it
        lists = [
            (await other.get(f"/v1/{noun}")).text
            for noun in ("emails", "api-keys", "domains", "suppressions", "templates", "webhooks")
        ]
        assert re.search("only.other", "".join(lists))


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
async def test_without_any_wall_another_tenants_id_would_be_found(open_to_all: Served, route: Route) -> None:
    assert (await ask_for_anothers(open_to_all, route)).status_code != 404


@pytest.mark.parametrize("route", WITH_IDS, ids=name_of)
async def test_what_is_nobodys_and_what_is_no_id_is_404_too(served: Served, route: Route) -> None:
    async with served.client() as acme:
        for used in ("00000000-0000-7000-8000-000000000000", "%00-1", "x"):
            path = re.sub(r"\{\w+\}", used, route.path)
            answer = await acme.request(route.method, path, json=BODIES.get(name_of(route), {}))
            assert (answer.status_code, answer.json()["name"]) == (404, "not_found"), used


@pytest.mark.parametrize("name", [name for name, way in WITHOUT_IDS.items() if way])
async def test_nothing_of_another_tenant_is_in_a_list_whatever_cursor_is_used(served: Served, name: str) -> None:
    make, ask = WITHOUT_IDS[name] or (send, lambda _: {})
    method, path = name.split()
    async with served.client(served.other_key) as other, served.client() as acme:
        cursor = await make(other)
        later = await make(other)
        answer = await acme.request(method, path, **ask(cursor))
        assert answer.status_code == 200
        assert OUTSIDER not in answer.text
        assert later not in answer.text


# A search finds nothing of another tenant in any case: the blind values of an address differ from tenant to tenant.
@pytest.mark.parametrize("name", ["GET /v1/emails", "GET /v1/api-keys"])
async def test_without_any_wall_a_list_would_hold_what_is_another_tenants(open_to_all: Served, name: str) -> None:
    with pytest.raises(AssertionError, match=OUTSIDER):
        await test_nothing_of_another_tenant_is_in_a_list_whatever_cursor_is_used(open_to_all, name)


@pytest.mark.parametrize("path", sorted({route.path for route in KEYED}))
async def test_every_other_verb_says_nothing_of_what_is_there(served: Served, path: str) -> None:
    known = {route.method for route in KEYED if route.path == path}
    async with served.client(served.other_key) as other, served.client() as acme:
        for name in re.findall(r"\{(\w+)\}", path):
            path = path.replace(f"{{{name}}}", await MAKERS[name](other))
        for verb in set(VERBS) - known:
            answer = await acme.request(verb, path, json={})
            assert (answer.status_code, answer.json()["name"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("route", ADMIN_WITH_IDS, ids=name_of)
async def test_an_operator_reaches_a_tenants_key_under_that_tenant_alone(served: Served, route: Route) -> None:
    key = await create_api_key(served.db, served.other, "other", actor="test")
    assert route.path_parameters == ["tenant_id", "api_key_id"], "say here what belongs to what"
    async with served.admin() as admin:
        for tenant, status in ((served.acme, 404), (uuid.uuid4(), 404), (served.other, route.status)):
            path = route.path.replace("{tenant_id}", str(tenant)).replace("{api_key_id}", str(key.key.api_key_id))
            assert (await admin.request(route.method, path)).status_code == status


async def test_a_large_message_is_read_by_its_tenant_and_no_other(served: Served) -> None:
    large = email(text="x" * 700_000, attachments=[{"filename": "a", "content": "A" * 1_000_000}])
    async with served.client(served.other_key) as other, served.client() as acme:
        message_id = (await other.post("/v1/emails", json=large)).json()["id"]
        assert len((await other.get(f"/v1/emails/{message_id}")).json()["text"]) == 700_000
        assert (await acme.get(f"/v1/emails/{message_id}")).status_code == 404


async def test_sending_stores_nothing_for_another_tenant(served: Served) -> None:
    headers = {"idempotency-key": "the same"}
    async with served.client(served.other_key) as other, served.client() as acme:
        theirs = (await other.post("/v1/emails", json=email(), headers=headers)).json()["id"]
        ours = await acme.post("/v1/emails", json=email(), headers=headers)
        assert ours.json()["id"] != theirs
        assert "idempotency-replayed" not in ours.headers
        assert len((await other.get("/v1/emails")).json()["data"]) == 1


async def test_a_key_is_made_for_its_tenant_alone(served: Served) -> None:
    async with served.client() as acme, served.client(served.other_key) as other:
        made = await make_key(acme)
        assert made in (await acme.get("/v1/api-keys")).text
        assert made not in (await other.get("/v1/api-keys")).text
