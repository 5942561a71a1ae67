"""A Secrets Manager with the gateway's secrets in it, and the gateway's stand-in."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.aws.recording_gateway import RecordingGateway, recording_gateway
from tests.aws.rotating import VALUES, Rotating
from tests.moto_server import connect, create_secrets, moto_server

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(scope="session")
def client(moto_url: str) -> "SecretsManagerClient":
    return connect(moto_url)


@pytest.fixture
def gateway() -> Iterator[RecordingGateway]:
    with recording_gateway() as gateway:
        yield gateway


@pytest.fixture
def rotating(client: "SecretsManagerClient", gateway: RecordingGateway) -> Rotating:
    rotating = Rotating(client, gateway)
    rotating.versions = create_secrets(client, rotating.prefix, VALUES)
    return rotating
