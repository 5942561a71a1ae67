"""What a caller sees of its limits: headers, 429s as the SDKs raise them, and the usage."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import RateLimitError

from email_gateway.limits import Limits
from email_gateway.limits import link as links
from email_gateway.settings import load_settings
from email_gateway.store.accounts import create_api_key
from email_gateway.store.quotas import Allowance, find_use, set_allowance
from tests.api.conftest import ENVIRONMENT
from tests.api.house import Served, email, make_accounts, serving
from tests.redis_server import running_redis

pytestmark = pytest.mark.anyio

QUOTA = 5
# A rate of a window so long that none ends within a test: sixty requests an hour.
SETTINGS = {"KEY_RATE": "1", "KEY_BURST": "60", "TENANT_DAILY_QUOTA": str(QUOTA), "TENANT_MONTHLY_QUOTA": "1000"}


@pytest.fixture
async def limited(shared: Served) -> AsyncIterator[Served]:
    """A server of the shared database with limits for every tenant, and two tenants of this test's own."""
    context = replace(shared.context, settings=load_settings({**ENVIRONMENT, **SETTINGS}))
    async with serving(context) as url:
        yield Served(url, context, *await make_accounts(shared.db, url.rpartition(":")[2] + str(id(context))))


async def test_every_answer_says_how_the_key_and_its_tenant_stand(limited: Served) -> None:
    async with limited.client() as client:
        sent = await client.post("/v1/emails", json=email(to=["a@example.net", "b@example.net"]))
        assert sent.status_code == 202
        assert (sent.headers["ratelimit-limit"], sent.headers["ratelimit-remaining"]) == ("60", "59")
        assert 1 <= int(sent.headers["ratelimit-reset"]) <= 120
        assert sent.headers["ratelimit-policy"] == '"key";q=60;w=60, "day";q=5, "month";q=1000'
        names = [one.split(";t=")[0] for one in sent.headers["ratelimit"].split(", ")]
        assert names == ['"key";r=59', '"day";r=3', '"month";r=998']
        refused = await client.post("/v1/emails", json={})
        assert refused.status_code == 422
        assert refused.headers["ratelimit-remaining"] == "58"


async def test_without_limits_no_answer_speaks_of_them(acme: httpx.AsyncClient) -> None:
    answer = await acme.get("/v1/emails")
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


async def test_a_key_that_asks_too_often_is_refused_and_its_tenants_other_keys_are_not(limited: Served) -> None:
    other = await create_api_key(limited.db, limited.acme, "another", actor="test")
    async with limited.client() as client, limited.client(other.secret) as another:
        answers = await asyncio.gather(*(client.get("/v1/emails") for _ in range(70)))
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (60, 10)
        refused = await client.get("/v1/emails")
        assert refused.json()["name"] == "rate_limit_exceeded"
        assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
        assert refused.headers["ratelimit-remaining"] == "0"
        assert (await another.get("/v1/emails")).status_code == 200


async def test_a_quota_refuses_what_is_too_much_and_stores_nothing_of_it(limited: Served) -> None:
    async with limited.client() as client:
        assert (await client.post("/v1/emails/batch", json=[email()] * 4)).status_code == 202
        refused = await client.post("/v1/emails/batch", json=[email()] * 2)
        assert (refused.status_code, refused.json()["name"]) == (429, "daily_quota_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 24 * 3600
        assert (await client.post("/v1/emails", json=email())).status_code == 202
        assert (await client.post("/v1/emails", json=email())).status_code == 429
        assert len((await client.get("/v1/emails")).json()["data"]) == QUOTA


async def test_an_answer_that_was_given_is_given_again_whatever_is_left(limited: Served) -> None:
    headers = {"idempotency-key": "first"}
    async with limited.client() as client:
        whole = [email()] * QUOTA
        first = await client.post("/v1/emails/batch", json=whole, headers=headers)
        again = await client.post("/v1/emails/batch", json=whole, headers=headers)
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        other = await client.post("/v1/emails", json=email(), headers={"idempotency-key": "second"})
        assert other.status_code == 429
        reused = await client.post("/v1/emails", json=email(), headers=headers)
        assert reused.status_code == 429


async def test_a_replay_uses_nothing(limited: Served) -> None:
    headers = {"idempotency-key": "first"}
    async with limited.client() as client:
        for _ in range(10):
            assert (await client.post("/v1/emails", json=email(), headers=headers)).status_code == 202
    assert (await find_use(limited.db, [limited.acme]))[limited.acme].today == 1


async def test_usage_tells_today_this_month_and_the_limits(limited: Served) -> None:
    async with limited.client() as client:
        await client.post("/v1/emails", json=email(to=["a@example.net", "b@example.net"]))
        usage = (await client.get("/v1/usage")).json()
    daily, monthly = usage["emails"]["daily"], usage["emails"]["monthly"]
    assert (daily["used"], daily["limit"], daily["sent"], daily["received"]) == (2, QUOTA, 2, 0)
    assert (monthly["used"], monthly["limit"]) == (2, 1000)
    assert daily["resets_at"].endswith("T00:00:00Z")
    assert usage["rate_limit"] == {"limit": 60, "duration": "60000ms"}
    assert usage["object"] == "usage"


async def test_usage_without_limits_says_so(acme: httpx.AsyncClient) -> None:
    usage = (await acme.get("/v1/usage")).json()
    assert (usage["emails"]["daily"]["limit"], usage["rate_limit"]) == (None, None)


async def test_the_sdk_raises_its_own_errors_and_reads_the_usage(
    limited: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resend, "api_url", f"{limited.url}/v1")
    monkeypatch.setattr(resend, "api_key", limited.acme_key)
    params: Any = {"from": "a@acme.example", "to": "b@example.net", "subject": "x", "text": "x"}
    await asyncio.to_thread(resend.Batch.send, [params] * QUOTA)
    with pytest.raises(RateLimitError) as exceeded:
        await asyncio.to_thread(resend.Emails.send, params)
    assert exceeded.value.error_type == "daily_quota_exceeded"
    assert int(exceeded.value.headers["retry-after"]) > 0
    usage = await asyncio.to_thread(resend.Usage.get)
    assert usage["emails"]["daily"]["used"] == QUOTA
    assert (await resend.Usage.get_async())["rate_limit"]["limit"] == 60
    await set_allowance(limited.db, limited.acme, Allowance(daily_quota=0, monthly_quota=QUOTA))
    async with asyncio.timeout(20):  # within a second or two the process has read it
        while (error := await refusal(params)).error_type != "monthly_quota_exceeded":  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.2)
    assert error.code == 429
    async with limited.client() as client:
        await asyncio.gather(*(client.get("/v1/emails") for _ in range(60)))
    assert (await refusal(params)).error_type == "rate_limit_exceeded"


async def refusal(params: Any) -> RateLimitError:
    """What the SDK raises for one message more."""
    with pytest.raises(RateLimitError) as refused:
        await resend.Emails.send_async(params)
    return refused.value


@pytest.mark.needs("redis-server")
async def test_a_lost_redis_is_told_by_readiness_and_accepts_within_the_limits(
    shared: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "REDIS_TIMEOUT_SECONDS", 10.0)
    with running_redis(tmp_path) as (url, process):
        limits = Limits(url)
        context = replace(shared.context, settings=load_settings({**ENVIRONMENT, **SETTINGS}), limits=limits)
        accounts = await make_accounts(shared.db, str(id(limits)))
        async with serving(context) as served_url, Served(served_url, context, *accounts).client() as client:
            assert (await client.post("/v1/emails/batch", json=[email()] * 3)).status_code == 202
            process.kill()
            process.wait()
            statuses = [(await client.post("/v1/emails", json=email())).status_code for _ in range(8)]
            assert statuses.count(202) <= 2
            assert set(statuses) <= {202, 429}
            context.readiness._until = 0.0
            ready = await client.get("/v1/health/readyz")
            assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "unavailable")
            metrics = (await client.get("/metrics")).text
            assert "email_gateway_limits_alone 1.0" in metrics
            assert 'email_gateway_limited_total{limit="' in metrics
        await limits.close()
