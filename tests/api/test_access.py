import asyncio
import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from email_gateway.api import ApiContext
from email_gateway.api.access import OPERATORS, ApiKeys
from email_gateway.api.bodies import BodyBudget
from email_gateway.api.calls import Call
from email_gateway.api.routes import ROUTES
from email_gateway.api.routing import Access, Route
from email_gateway.errors import Forbidden
from email_gateway.store.accounts import (
    SENDING_ACCESS,
    create_api_key,
    create_tenant,
    hash_api_key,
    list_api_keys,
    revoke_api_key,
)
from email_gateway.store.database import Database
from email_gateway.store.key_text import CHECKSUM_DIGITS, make_key_text
from tests.api.house import ADMIN_KEY, Served, email, serving

pytestmark = pytest.mark.anyio

KEYED = [route for route in ROUTES if route.access in (Access.FULL, Access.SENDING)]
ADMIN = [route for route in ROUTES if route.access in OPERATORS]
ID = "00000000-0000-7000-8000-000000000000"


def path_of(route: Route) -> str:
    return re.sub(r"\{\w+\}", ID, route.path.replace("{delivery_id}", f"{ID}-0"))


async def request(shared: Served, route: Route, headers: Any) -> httpx.Response:
    async with shared.client("") as client:
        return await client.request(route.method, path_of(route), headers=headers)


def named(route: Any) -> str:
    return f"{route.method} {route.path}" if isinstance(route, Route) else ""


@pytest.mark.parametrize("route", KEYED, ids=named)
async def test_no_key_is_401_and_a_wrong_one_403_on_every_route(unlimited: Served, route: Route) -> None:
    for headers, status, name in (
        ({}, 401, "missing_api_key"),
        ({"authorization": "Basic abc"}, 401, "missing_api_key"),
        ({"authorization": "Bearer"}, 401, "missing_api_key"),
        ({"x-api-key": ""}, 401, "missing_api_key"),
        ({"authorization": "Bearer nonsense"}, 403, "invalid_api_key"),
        ({"authorization": f"Bearer eg_00000000_{'A' * 43}"}, 403, "invalid_api_key"),
        ({"authorization": f"Bearer {unlimited.acme_key[:-1]}"}, 403, "invalid_api_key"),
        ({"authorization": f"Bearer {unlimited.acme_key}x"}, 403, "invalid_api_key"),
        ({"x-admin-key": ADMIN_KEY}, 401, "missing_api_key"),
    ):
        answer = await request(unlimited, route, headers)
        assert (answer.status_code, answer.json()["name"]) == (status, name), headers


@pytest.mark.parametrize("route", ADMIN, ids=named)
async def test_without_the_admin_key_every_admin_route_is_401(unlimited: Served, route: Route) -> None:
    for headers in (
        {},
        {"x-admin-key": ""},
        {"x-admin-key": ADMIN_KEY[:-1]},
        {b"x-admin-key": "é".encode()},
        {"authorization": f"Bearer {unlimited.acme_key}"},
        {"authorization": f"Bearer {ADMIN_KEY}"},
    ):
        answer = await request(unlimited, route, headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_ten_wrong_admin_keys_make_even_the_right_one_wait(unlimited: Served) -> None:
    async with unlimited.admin("wrong") as guesser:
        for _ in range(10):
            assert (await guesser.get("/admin/health")).status_code == 401
        refused = await guesser.get("/admin/health")
    assert (refused.status_code, refused.json()["name"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    async with unlimited.admin() as admin:
        assert (await admin.get("/admin/health")).status_code == 429


def invented_key(number: int) -> str:
    return f"eg_00000000_{number:043d}"


async def test_ten_invented_api_keys_make_a_client_wait_and_no_caller_whose_key_was_right(unlimited: Served) -> None:
    fresh = await create_api_key(unlimited.db, unlimited.acme, "fresh", actor="test")
    async with (
        unlimited.client() as caller,
        unlimited.client("") as guesser,
        unlimited.client(fresh.secret) as newcomer,
    ):
        assert (await caller.get("/v1/emails")).status_code == 200
        for number in range(10):
            answer = await guesser.get("/v1/emails", headers={"x-api-key": invented_key(number)})
            assert answer.status_code == 403
        refused = await guesser.get("/v1/emails", headers={"x-api-key": invented_key(10)})
        assert (refused.status_code, refused.json()["name"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        # What is no key costs nothing, and says so: an SDK would repeat a request that was answered 429.
        assert (await guesser.get("/v1/emails", headers={"x-api-key": "re_123"})).status_code == 403
        assert (await newcomer.get("/v1/emails")).status_code == 429
        await bump(unlimited.db)
        await asyncio.sleep(1.5)  # all keys are looked up again
        assert (await caller.get("/v1/emails")).status_code == 200


def mistyped(secret: str) -> str:
    """The key with the last letter of its secret wrong."""
    wrong = "a" if secret[-7] != "a" else "b"
    return f"{secret[:-7]}{wrong}{secret[-6:]}"


async def test_ten_mistyped_api_keys_make_a_client_wait_though_none_is_looked_up(unlimited: Served) -> None:
    wrong = mistyped(unlimited.acme_key)
    async with unlimited.client() as caller, unlimited.client(wrong) as mistaken:
        assert (await caller.get("/v1/emails")).status_code == 200
        for _ in range(10):
            answer = await mistaken.get("/v1/emails")
            assert (answer.status_code, answer.json()["name"]) == (403, "invalid_api_key")
        refused = await mistaken.get("/v1/emails")
        assert (refused.status_code, refused.json()["name"]) == (429, "rate_limit_exceeded")
        assert (await caller.get("/v1/emails")).status_code == 200


async def test_a_key_from_before_there_were_checksums_works(shared: Served) -> None:
    made = await create_api_key(shared.db, shared.acme, "old", actor="test")
    without = made.secret[:-CHECKSUM_DIGITS]
    await shared.db.execute(
        "UPDATE api_key SET key_hash = $2 WHERE api_key_id = $1", made.key.api_key_id, hash_api_key(without)
    )
    async with shared.client(without) as client:
        assert (await client.get("/v1/emails")).status_code == 200


async def bump(db: Database) -> None:
    """End the cache of keys, as a revoked one does."""
    async with db.transaction() as transaction:
        await transaction.execute("UPDATE generation SET value = value + 1 WHERE name = 'api_keys'")


async def test_neither_what_is_no_key_nor_a_mistyped_one_nor_a_slowed_client_asks_the_database(
    context: ApiContext,
) -> None:
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as client:
        await context.db.close()
        for nonsense in ("nonsense", "re_123", f"eg_00000000_{'A' * 42}", f"eg_0000000G_{'A' * 43}", "eg_" + "A" * 500):
            assert (await client.get("/v1/emails", headers={"x-api-key": nonsense})).status_code == 403
        wrong = mistyped(make_key_text().secret)
        assert (await client.get("/v1/emails", headers={"x-api-key": wrong})).status_code == 403
        assert (await client.get("/v1/emails", headers={"x-api-key": invented_key(0)})).status_code == 503
        for _ in range(10):
            await context.limits.add_key_failure("127.0.0.1")
        assert (await client.get("/v1/emails", headers={"x-api-key": invented_key(0)})).status_code == 429


async def test_a_forwarded_address_of_an_untrusted_client_opens_no_fresh_allowance(unlimited: Served) -> None:
    async with unlimited.admin("wrong") as guesser:
        answers = [await guesser.get("/admin/health", headers={"x-forwarded-for": f"203.0.113.{n}"}) for n in range(11)]
    assert answers[-1].status_code == 429


async def test_a_key_works_in_either_header(shared: Served) -> None:
    for headers in (
        {"authorization": f"Bearer {shared.acme_key}"},
        {"authorization": f"bearer {shared.acme_key}"},
        {"x-api-key": shared.acme_key},
    ):
        async with shared.client("") as client:
            assert (await client.get("/v1/emails", headers=headers)).status_code == 200


async def test_two_keys_in_one_request_are_refused(shared: Served) -> None:
    async with shared.client("") as client:
        pairs = [("x-admin-key", "a"), ("x-admin-key", ADMIN_KEY)]
        assert (await client.get("/admin/health", headers=pairs)).status_code == 422


async def test_a_key_for_sending_sends_and_reads_nothing(shared: Served) -> None:
    made = await create_api_key(shared.db, shared.acme, "sender", actor="test", scopes=[SENDING_ACCESS])
    async with shared.client(made.secret) as sender:
        assert (await sender.post("/v1/emails", json=email())).status_code == 202
        assert (await sender.post("/v1/emails/batch", json=[email()])).status_code == 202
        for route in KEYED:
            if route.access is Access.FULL:
                answer = await sender.request(route.method, path_of(route), json={})
                assert (answer.status_code, answer.json()["name"]) == (403, "invalid_api_key")


async def test_a_key_bound_to_other_networks_is_refused(shared: Served) -> None:
    for network, status in (("203.0.113.0/24", 403), ("2001:db8::/32", 403), ("127.0.0.0/8", 200)):
        made = await create_api_key(
            shared.db, shared.acme, "bound", actor="test", allowed_networks=[ip_network(network)]
        )
        async with shared.client(made.secret) as client:
            assert (await client.get("/v1/emails")).status_code == status


async def test_an_expired_key_is_refused(shared: Served) -> None:
    ended = datetime.now(UTC) - timedelta(seconds=1)
    made = await create_api_key(shared.db, shared.acme, "old", actor="test", expires_at=ended)
    async with shared.client(made.secret) as client:
        assert (await client.get("/v1/emails")).status_code == 403


async def test_a_revoked_key_is_refused_within_seconds_though_it_was_cached(shared: Served) -> None:
    made = await create_api_key(shared.db, shared.acme, "gone", actor="test")
    async with shared.client(made.secret) as client:
        assert (await client.get("/v1/emails")).status_code == 200
        await revoke_api_key(shared.db, shared.acme, made.key.api_key_id, actor="test")
        async with asyncio.timeout(20):  # after five seconds of cache, when a busy machine comes to it
            while (await client.get("/v1/emails")).status_code == 200:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.1)
        assert (await client.get("/v1/emails")).status_code == 403


async def test_a_key_that_changes_while_it_is_looked_up_is_looked_up_again(context: ApiContext) -> None:
    tenant = await create_tenant(context.db, "acme", actor="test")
    made = await create_api_key(context.db, tenant.tenant_id, "key", actor="test")
    keys = ApiKeys(context)
    call = Call({}, nothing_comes, BodyBudget(), "a request", headers={b"x-api-key": made.secret.encode()})
    async with context.db.transaction() as transaction:
        await transaction.execute("LOCK TABLE api_key")
        asked = asyncio.create_task(keys.authenticate(call))
        waiting = "SELECT FROM pg_locks WHERE relation = 'api_key'::regclass AND NOT granted"
        while not await context.db.fetch(waiting):
            pass
        keys._compare(7)  # what the watch does when it sees that a key has changed
    assert (await asked).tenant_id == tenant.tenant_id
    await context.db.execute("UPDATE api_key SET revoked_at = now()")
    call = Call({"client": None}, nothing_comes, BodyBudget(), "another", headers=call.headers)
    with pytest.raises(Forbidden):
        await keys.authenticate(call)


async def nothing_comes() -> Any:
    raise AssertionError("nobody reads a body here")


async def test_the_use_of_a_key_is_noted(shared: Served) -> None:
    made = await create_api_key(shared.db, shared.acme, "used", actor="test")
    async with shared.client(made.secret) as client:
        await client.get("/v1/emails")
    async with asyncio.timeout(20):
        while True:
            keys = {key.api_key_id: key for key in await list_api_keys(shared.db, shared.acme)}
            if keys[made.key.api_key_id].last_used_at is not None:
                break
            await asyncio.sleep(0.02)
