import asyncio
import socket
from dataclasses import replace

import httpx
import pytest

from email_gateway.api import ApiContext
from email_gateway.api.context import Readiness
from email_gateway.limits import Limits
from email_gateway.settings import load_settings
from email_gateway.store.database import Database
from tests.api.conftest import ENVIRONMENT
from tests.api.house import ADMIN_KEY, Served, email, serving

pytestmark = pytest.mark.anyio


async def test_readiness_has_exactly_these_words(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/health/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "healthy",
        "checks": {"secretsManager": "disabled", "database": "ok", "redis": "disabled"},
    }


async def test_liveness_needs_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/health/livez")).json() == {"status": "alive"}


async def test_redis_that_is_away_degrades_and_mail_is_still_accepted(shared: Served) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        limits = Limits(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        context = replace(shared.context, limits=limits, readiness=Readiness())
        async with serving(context) as url, httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/v1/health/readyz")
            assert answer.status_code == 200
            assert answer.json()["status"] == "degraded"
            assert answer.json()["checks"]["redis"] == "unavailable"
            sent = await client.post("/v1/emails", json=email(), headers={"x-api-key": shared.acme_key})
            assert sent.status_code == 202
            assert (await client.get("/admin/health", headers={"x-admin-key": ADMIN_KEY})).status_code == 200
        await limits.close()


async def test_mail_that_is_kept_where_people_expect_it_degrades_and_says_so(shared: Served) -> None:
    environ = {"APP_ENV": "staging", "USE_SECRETS_MANAGER": "false", "TRANSPORT": "inbox"}
    context = replace(shared.context, settings=load_settings({**ENVIRONMENT, **environ}), readiness=Readiness())
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/v1/health/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["transport"] == "inbox"
        detail = (await client.get("/admin/health", headers={"x-admin-key": ADMIN_KEY})).json()
        assert (detail["status"], detail["checks"]["transport"]) == ("degraded", "inbox")


async def test_without_the_database_nothing_is_ready_and_requests_are_503(context: ApiContext) -> None:
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as client:
        await context.db.close()
        answer = await client.get("/v1/health/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "unhealthy"
        assert answer.json()["checks"]["database"] == "unavailable"
        assert (await client.get("/v1/health/livez")).status_code == 200
        refused = await client.get("/v1/emails", headers={"x-api-key": f"eg_00000000_{'A' * 43}"})
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),  # as providers do at 95 %
        ("SET temp_file_limit = 0", "RESET temp_file_limit"),  # stands for a disk without room for half a megabyte
    ],
)
async def test_a_database_that_can_be_read_and_not_written_is_not_ready(
    alone: Served, postgres_url: str, broken: str, mended: str
) -> None:
    server = await Database.connect(postgres_url, pool_size=1)
    row = await alone.db.fetch_one("SELECT current_database()")
    assert row is not None
    async with alone.client() as client:
        for change, status, word in ((broken, 503, "unavailable"), (mended, 200, "ok")):
            await server.execute(f"ALTER DATABASE {row[0]} {change}")
            await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", row[0])
            await asyncio.sleep(Readiness.MAX_AGE_SECONDS)
            answer = await client.get("/v1/health/readyz")
            assert (answer.status_code, answer.json()["checks"]["database"]) == (status, word)
    await server.close()


async def test_a_missing_migration_is_not_ready(context: ApiContext) -> None:
    await context.db.execute("DELETE FROM schema_migration")
    async with serving(context) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/v1/health/readyz")).status_code == 503


async def test_the_detail_is_for_the_admin_key(shared: Served) -> None:
    async with shared.admin() as admin:
        detail = (await admin.get("/admin/health")).json()
    assert (detail["status"], detail["dead_letters"]) == ("healthy", 0)
    assert "encryption-key" in detail["secrets"]
    assert ADMIN_KEY not in str(detail)


async def test_metrics_are_for_this_machine_or_the_admin_key(shared: Served) -> None:
    async with shared.client("") as client:
        local = await client.get("/metrics")
        assert local.status_code == 200
        assert "email_gateway_accepted_total" in local.text
        forwarded = {"x-forwarded-for": "198.51.100.7"}
        assert (await client.get("/metrics", headers=forwarded)).status_code == 401
        assert (await client.get("/metrics", headers=forwarded | {"x-admin-key": ADMIN_KEY})).status_code == 200
