import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import resend

from email_gateway.api import ApiContext, know_verified_domains
from email_gateway.fleet import Fleet
from email_gateway.limits import Limits
from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import SecretsManagerSource
from email_gateway.settings import load_settings
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots
from email_gateway.vault.roots import derive_root
from tests.api.house import ADMIN_KEY, Served, make_accounts, serving
from tests.conftest import KEY, SALT, at
from tests.given_roots import only
from tests.plugins.secrets_manager import PATIENT, Aws

ROTATION_KEY = "MARK-rotation-key-1c3e0f0f-4e6d-a1a1-0123456789ab"
ENVIRONMENT = {"APP_ENV": "test", "ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": ADMIN_KEY}


@asynccontextmanager
async def context_over(db: Database) -> AsyncIterator[ApiContext]:
    """Everything the API needs, over a database that is migrated and empty."""
    settings = load_settings(ENVIRONMENT)
    keyring = await Keyring.start(db, only(derive_root(KEY, SALT)))
    secrets = await SecretsService.start(settings)
    acceptor = Acceptor(db)
    fleet = Fleet(db, secrets, keyring, "api")
    await fleet.start()
    yield ApiContext(settings, db, keyring, secrets, acceptor, Limits(), fleet, know_verified_domains(db))
    await fleet.close()
    await acceptor.close()
    await secrets.close()


@pytest.fixture
async def context(db: Database) -> AsyncIterator[ApiContext]:
    async with context_over(db) as context:
        yield context


@pytest.fixture(scope="session")
async def shared(postgres_url: str, template: str) -> AsyncIterator[Served]:
    """The server that most tests talk to; they share its database and its limits."""
    name = f"test_api_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    db = await Database.connect(at(postgres_url, name))
    async with context_over(db) as context:
        accounts = await make_accounts(db)
        async with serving(context) as url:
            yield Served(url, context, *accounts)
    await db.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
async def api(shared: Served) -> Served:
    """The shared server with two tenants of this test's own."""
    return Served(shared.url, shared.context, *await make_accounts(shared.db, uuid.uuid4().hex[:12]))


@pytest.fixture
async def unlimited(shared: Served) -> AsyncIterator[Served]:
    """A server that has not counted anything against anyone yet."""
    async with serving(replace(shared.context, limits=Limits())) as url:
        yield replace(shared, url=url)


@pytest.fixture
async def alone(context: ApiContext) -> AsyncIterator[Served]:
    """A server with a database of this test's own."""
    accounts = await make_accounts(context.db)
    async with serving(context) as url:
        yield Served(url, context, *accounts)


@pytest.fixture
async def acme(api: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the key of this test's own tenant."""
    async with api.client() as client:
        yield client


@pytest.fixture
async def client(shared: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared server, with the key of the tenant that tests share."""
    async with shared.client() as client:
        yield client


@pytest.fixture
def sdk(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resend's SDK for Python, with one URL changed and the key of the tenant that tests share."""
    monkeypatch.setattr(resend, "api_url", f"{shared.url}/v1")
    monkeypatch.setattr(resend, "api_key", shared.acme_key)


@pytest.fixture
async def rotating(aws: Aws, db: Database) -> AsyncIterator[Served]:
    """A server of this test's own whose secrets are in Secrets Manager, the rotation key among them."""
    aws.create({"rotation-key": ROTATION_KEY})
    async with served_from_secrets_manager(aws, db) as served:
        yield served


@asynccontextmanager
async def served_from_secrets_manager(aws: Aws, db: Database) -> AsyncIterator[Served]:
    """A server whose secrets are those of `aws`, as the one process of a fleet."""
    settings = aws.settings({"REQUIRE_VERIFIED_DOMAINS": "false"})
    secrets = await SecretsService.start(settings, source=await SecretsManagerSource.open(settings, PATIENT))
    keyring = await Keyring.start(db, SecretsRoots(secrets))
    fleet = Fleet(db, secrets, keyring, "api")
    await fleet.start()
    acceptor = Acceptor(db)
    context = ApiContext(settings, db, keyring, secrets, acceptor, Limits(), fleet, know_verified_domains(db))
    accounts = await make_accounts(db)
    async with serving(context) as url:
        yield Served(url, context, *accounts)
    await acceptor.close()
    await fleet.close()
    await secrets.close()
