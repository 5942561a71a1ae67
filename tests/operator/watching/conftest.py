import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from email_gateway.store.database import Database
from tests.conftest import at
from tests.fault_proxy import fault_proxy
from tests.operator.watching.faces import Faces, run_both
from tests.plugins.secrets_manager import VALUES, Aws

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@pytest.fixture(scope="session")
async def faces(
    moto_url: str,
    operator: "SecretsManagerClient",
    postgres_url: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Faces]:
    """What a real api and a real worker have served and emitted; one run for every test that asks."""
    name = f"test_watching_{uuid.uuid4().hex[:12]}"
    server = await Database.connect(postgres_url, pool_size=1)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    with fault_proxy(moto_url) as (proxy, url):
        aws = Aws(operator, proxy, url)
        aws.create(VALUES)
        folder = tmp_path_factory.mktemp("watching")
        yield await anyio.to_thread.run_sync(run_both, aws, at(postgres_url, name), folder)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()
