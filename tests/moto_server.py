"""A real Secrets Manager API on loopback: moto's server in a thread of this process."""

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
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


def kept_secret(full_name: str) -> Any:
    """Return a secret as a server in this process holds it: its API has no way to some states."""
    return get_backend("secretsmanager")[DEFAULT_ACCOUNT_ID][REGION].secrets[full_name]


def begin_rotation(full_name: str) -> str:
    """Do what RotateSecret does before it calls the function: a pending version without a value; return its id."""
    kept = kept_secret(full_name)
    version_id = str(uuid.uuid4())
    kept.rotation_requested = kept.rotation_enabled = True
    kept.remove_version_stages_from_old_versions(["AWSPENDING"])
    kept.versions[version_id] = {"createdate": 0, "version_id": version_id, "version_stages": ["AWSPENDING"]}
    return version_id


def settle_current(full_name: str) -> None:
    """Let the next put_secret_value take AWSCURRENT from the version that has it.

    Moving a label leaves the emulator's own note of the current version behind, and then two
    versions would carry the label.
    """
    kept = kept_secret(full_name)
    kept.default_version_id = next(
        version_id for version_id, version in kept.versions.items() if "AWSCURRENT" in version["version_stages"]
    )
