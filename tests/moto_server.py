"""A real Secrets Manager API on loopback: moto's server in a thread of this process."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

REGION = "us-east-1"
# Without these boto3 asks the metadata service of the machine, on a network that tests do not use.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@contextmanager
def moto_server() -> Iterator[str]:
    """Run the server on a free port; yields its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def connect(url: str) -> "SecretsManagerClient":
    """Return the operator's client of the API at `url`, with credentials of its own."""
    return boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    ).client("secretsmanager", endpoint_url=url)


def create_secrets(client: "SecretsManagerClient", prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    """Create each secret under the prefix; returns their VersionIds by name."""
    return {
        name: client.create_secret(Name=f"{prefix}/{name}", SecretString=value)["VersionId"]
        for name, value in values.items()
    }
