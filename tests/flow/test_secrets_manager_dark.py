"""Secrets Manager goes dark: what runs serves on through a day of it, and nothing starts in it."""

import asyncio
import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from email_gateway.api import ApiContext, know_verified_domains
from email_gateway.api.context import Readiness
from email_gateway.fleet import Fleet
from email_gateway.limits import Limits
from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import CallLimits, SecretsManagerSource
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots
from tests.api.house import email, make_accounts, serving
from tests.conftest import at
from tests.fault_proxy import EVERY, FAILING, Fault, fault_proxy
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, moto_server
from tests.plugins.marks import Watch
from tests.plugins.secrets_manager import PATIENT, VALUES, Aws
from tests.secrets.fake_clock import FakeClock
from tests.secrets.reasons import LASTING, PASSING

pytestmark = pytest.mark.anyio

CACHE_SECONDS = 3600
HOUR_SECONDS = 3600.0
HOURS = 24
# Answers that never come hold a thread as long as `read`; a good start has this long for each secret.
SILENT = CallLimits(connect=3.0, read=3.0, attempts=1, deadline=5.0)
GIVE_UP_SECONDS = 0.05  # in the dark: a day has some 35 refreshes
PROCESSES = len(PASSING) + 2  # those that wait, and as many as there may be cores
# They open the same foundation, so they take turns.
PARTS = (("api", "--port", "0"), ("worker",))
ENDED_WITHIN_SECONDS = 120


class EveryTime(Readiness):
    """Readiness found anew for each probe: the test's hours pass in less than a second."""

    MAX_AGE_SECONDS = 0.0


@dataclass
class Application:
    """A tenant that sends mail and reads it back; an answer that is not 2xx fails the test."""

    http: httpx.AsyncClient
    headers: dict[str, str]
    sent: list[tuple[str, str]] = field(default_factory=list)

    async def send(self) -> None:
        address = f"person-{uuid.uuid4().hex}@example.net"
        answer = await self.http.post("/v1/emails", json=email(to=[address]), headers=self.headers)
        assert answer.status_code == 202, answer.text
        self.sent.append((answer.json()["id"], address))

    async def read_back(self, number: int) -> None:
        """Open a mail that was sealed."""
        email_id, address = self.sent[number]
        answer = await self.http.get(f"/v1/emails/{email_id}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["to"] == [address]

    async def find(self, number: int) -> None:
        """Find a mail by its address through the blind index."""
        email_id, address = self.sent[number]
        found = await self.http.post("/v1/emails/search", json={"address": address}, headers=self.headers)
        assert [one["id"] for one in found.json()["data"]] == [email_id]


@dataclass
class Running:
    """A gateway under a moved clock, seen from outside."""

    http: httpx.AsyncClient
    secrets: SecretsService
    source: SecretsManagerSource

    def application(self, key: str) -> Application:
        return Application(self.http, {"authorization": f"Bearer {key}"})

    async def readiness(self) -> tuple[int, str, str]:
        answer = await self.http.get("/v1/health/readyz")
        return answer.status_code, answer.json()["status"], answer.json()["checks"]["secretsManager"]

    async def alerts(self) -> dict[str, float]:
        """The alert of each critical secret, as Prometheus scrapes it."""
        lines = (await self.http.get("/metrics")).text.splitlines()
        return {
            name: float(line.split()[-1])
            for name in VALUES
            for line in lines
            if line.startswith(f'email_gateway_secret_alert{{name="{name}"}}')
        }


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(scope="module")
def aws(moto_url: str, watch: Watch) -> Iterator[Aws]:
    """The three critical secrets in Secrets Manager, behind a proxy."""
    watch.add("a secret of Secrets Manager", *VALUES.values())
    with pytest.MonkeyPatch.context() as environ, fault_proxy(moto_url) as (proxy, url):
        for name, value in AWS_ENVIRONMENT.items():
            environ.setenv(name, value)
        aws = Aws(connect(moto_url), proxy, url)
        aws.create(VALUES)
        yield aws


@pytest.fixture(scope="module")
async def database_url(postgres_url: str, template: str) -> AsyncIterator[str]:
    """One database for every fault, as they come one after another."""
    name = f"test_dark_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield at(postgres_url, name)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture(scope="module")
async def db(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    yield database
    await database.close()


@asynccontextmanager
async def running(db: Database, aws: Aws, clock: FakeClock, limits: CallLimits = PATIENT) -> AsyncIterator[Running]:
    """Start as a process does: the secrets, the root key proven with them, the API on a socket."""
    smarthost = {"TRANSPORT": "smtp", "SMTP_URL": "smtp://smarthost.example"}
    settings = aws.settings(
        {"SECRETS_CACHE_SECONDS": str(CACHE_SECONDS), "REQUIRE_VERIFIED_DOMAINS": "false", **smarthost}
    )
    source = await SecretsManagerSource.open(settings, limits)
    secrets = await SecretsService.start(settings, source=source, clock=clock)
    keyring = await Keyring.start(db, SecretsRoots(secrets))
    fleet = Fleet(db, secrets, keyring, "api")
    await fleet.start()
    acceptor = Acceptor(db)
    context = ApiContext(
        settings, db, keyring, secrets, acceptor, Limits(), fleet, know_verified_domains(db), EveryTime()
    )
    async with serving(context) as url, httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        yield Running(http, secrets, source)
    await acceptor.close()
    await fleet.close()
    await secrets.close()


@pytest.fixture(scope="module")
async def earlier(db: Database, aws: Aws) -> tuple[str, list[tuple[str, str]]]:
    """A tenant's key and the mail it sent through a process that has ended since."""
    _, key, _, _ = await make_accounts(db, "-earlier")
    async with running(db, aws, FakeClock()) as gateway:
        tenant = gateway.application(key)
        for _ in range(HOURS):
            await tenant.send()
    return key, tenant.sent


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    errors: str


Starts = dict[Fault, Future[Ended]]


@pytest.fixture(scope="module")
def starts(moto_url: str, aws: Aws, database_url: str, watch: Watch) -> Iterator[Starts]:
    """Begin to start a part with each fault, some at a time: what may pass by itself is waited for 15 s."""

    def start(part: Sequence[str], fault: Fault, url: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "email_gateway.cli", *part],
            env={
                "PATH": os.environ["PATH"],
                **AWS_ENVIRONMENT,
                "APP_ENV": "production",
                "TRANSPORT": "inbox",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL": url,
                "SECRETS_PREFIX": aws.prefix,
                "DATABASE_URL": database_url,
                "LOG_LEVEL": "DEBUG",
            },
            check=False,
            capture_output=True,
            text=True,
            timeout=ENDED_WITHIN_SECONDS,
        )
        watch.keep(f"dark-{part[0]}-{fault}.log", done.stdout + done.stderr)
        return Ended(done.returncode, done.stdout, done.stderr)

    with ExitStack() as proxies, ThreadPoolExecutor(PROCESSES) as pool:
        begun: Starts = {}
        # Those that wait begin first.
        for fault, part in zip((*PASSING, *LASTING), itertools.cycle(PARTS), strict=False):
            proxy, url = proxies.enter_context(fault_proxy(moto_url))
            proxy.faults[EVERY] = fault
            begun[fault] = pool.submit(start, part, fault, url)
        yield begun


@pytest.mark.usefixtures("starts")  # they mostly wait, and may do so beside this
@pytest.mark.parametrize("fault", FAILING)
async def test_mail_flows_through_a_day_in_the_dark(
    db: Database, aws: Aws, earlier: tuple[str, list[tuple[str, str]]], fault: Fault
) -> None:
    clock = FakeClock()
    _, key, _, key_of_a_newcomer = await make_accounts(db, f"-{fault}")
    limits = SILENT if fault in (Fault.HANG, Fault.DRIP) else PATIENT
    async with running(db, aws, clock, limits) as gateway:
        tenant, before = gateway.application(key), gateway.application(earlier[0])
        before.sent += earlier[1]
        await tenant.send()
        assert await gateway.readiness() == (200, "healthy", "ok")
        assert await gateway.alerts() == dict.fromkeys(VALUES, 0.0)

        aws.proxy.faults[EVERY] = fault
        if limits is SILENT:
            gateway.source._deadline = GIVE_UP_SECONDS
        for hour in range(HOURS):
            # At the same time as the refreshes that fail. The earlier tenant's keys are met in the dark.
            await asyncio.gather(
                clock.advance(HOUR_SECONDS),
                tenant.send(),
                tenant.send(),
                tenant.read_back(hour),
                before.read_back(hour),
            )
            if hour in (1, HOURS - 1):  # two lifetimes, and a day
                assert await gateway.readiness() == (200, "degraded", "degraded")
                assert await gateway.alerts() == dict.fromkeys(VALUES, 1.0)

        newcomer = gateway.application(key_of_a_newcomer)  # its data keys are made now
        await newcomer.send()
        await newcomer.read_back(0)
        for application in (newcomer, tenant, before):
            await application.find(0)
        health = await gateway.http.get("/admin/health", headers={"x-admin-key": VALUES["admin-api-key"]})
        assert health.json()["secrets"]["encryption-key"]["stale"] is True

        aws.proxy.faults.clear()
        gateway.source._deadline = limits.deadline
        await advance_to_the_next_refresh(gateway, clock)
        assert await gateway.readiness() == (200, "healthy", "ok")
        assert await gateway.alerts() == dict.fromkeys(VALUES, 0.0)
        for application in (tenant, before, newcomer):
            await application.read_back(0)


async def advance_to_the_next_refresh(gateway: Running, clock: FakeClock) -> None:
    left = gateway.secrets.status()["encryption-key"]["next_refresh_seconds"]
    assert left is not None
    await clock.advance(left + 0.001)  # it is shown rounded


@pytest.mark.parametrize("fault", FAILING)
def test_nothing_starts_in_the_dark_and_the_reason_is_told(starts: Starts, fault: Fault) -> None:
    end = starts[fault].result()
    _, advice = (LASTING | PASSING)[fault]
    reason = end.errors.partition("error: Failed to fetch secrets from AWS Secrets Manager in us-east-1:\n")[2]
    assert all(f"/{name}" in reason for name in VALUES)
    assert advice in reason
    assert end.code == (1 if fault in PASSING else 78)
    assert ("secrets_not_yet_fetched" in end.errors) == (fault in PASSING)
    assert not [name for name, value in VALUES.items() if value in end.out + end.errors]
    assert end.out == ""
