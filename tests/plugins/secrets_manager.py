"""A Secrets Manager with secrets in it, behind a proxy that can fail; any test may ask for it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import CallLimits, SecretsManagerSource
from email_gateway.settings import Settings, load_settings
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server
from tests.secrets.fake_clock import FakeClock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

VALUES = {
    "encryption-key": "MARK-key-4d1f0e6c-8a4b-4f8e-9c55-0123456789ab",
    "encryption-salt": "MARK-salt-b7a0f1de-3c2b-4a19-8d77-0123456789ab",
    "admin-api-key": "MARK-admin-55aa1c3e-0f0f-4e6d-a1a1-0123456789ab",
}
# One attempt, since the client would pause before a second; patient, since the machine may be busy.
PATIENT = CallLimits(connect=10.0, read=10.0, attempts=1, deadline=15.0)
# For answers that never come.
QUICK = CallLimits(connect=0.6, read=0.6, attempts=1, deadline=0.8)


def limits_for(fault: Fault) -> CallLimits:
    return QUICK if fault in (Fault.HANG, Fault.DRIP) else PATIENT


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(scope="session")
def operator(moto_url: str) -> "SecretsManagerClient":
    """The client of whoever keeps the secrets; one for all tests, since making it takes a moment."""
    return connect(moto_url)


@dataclass
class Aws:
    """One test's secrets, under a prefix of its own, and the proxy in front of them."""

    client: "SecretsManagerClient"
    proxy: FaultProxy
    url: str
    prefix: str = field(default_factory=lambda: f"gateway-{uuid.uuid4().hex[:12]}")
    versions: dict[str, str] = field(default_factory=dict)

    def settings(self, environ: Mapping[str, str] | None = None) -> Settings:
        return load_settings(
            {
                "APP_ENV": "production",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL": self.url,
                "SECRETS_PREFIX": self.prefix,
                "TRANSPORT": "inbox",
                **(environ or {}),
            }
        )

    def create(self, values: Mapping[str, str]) -> None:
        self.versions |= create_secrets(self.client, self.prefix, values)

    def put(self, name: str, value: str) -> str:
        return self.client.put_secret_value(SecretId=f"{self.prefix}/{name}", SecretString=value)["VersionId"]


@pytest.fixture
def aws(moto_url: str, operator: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The three critical secrets in Secrets Manager."""
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with fault_proxy(moto_url) as (proxy, url):
        aws = Aws(operator, proxy, url)
        aws.create(VALUES)
        yield aws


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Start = Callable[..., Awaitable[SecretsService]]


@pytest.fixture
async def start(aws: Aws, clock: FakeClock) -> AsyncIterator[Start]:
    """Start a service on these secrets, with short timeouts; it is closed after the test."""
    running: list[SecretsService] = []

    async def start(
        environ: Mapping[str, str] | None = None, *, limits: CallLimits = PATIENT, **options: Any
    ) -> SecretsService:
        settings = aws.settings(environ)
        source = await SecretsManagerSource.open(settings, limits)
        service = await SecretsService.start(settings, source=source, **{"clock": clock, **options})
        running.append(service)
        return service

    yield start
    for service in running:
        await service.close()
