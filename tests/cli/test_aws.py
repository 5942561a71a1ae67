"""The zip of the rotation function: what is in it, and that it works with boto3 beside it and nothing else."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import boto3
import pytest
from typer.testing import CliRunner

from email_gateway.cli import app, exits
from email_gateway.cli.aws.rotation_zip import pack_rotation_function
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server

SITE_PACKAGES = Path(boto3.__file__).parents[1]
# What boto3 itself brings.
ALLOWED = {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six", "awscrt", "certifi"}
PROGRAM = """
import json, os, sys
sys.path[:0] = sys.argv[1:3]
from email_gateway.aws.rotation import handler
handler(json.loads(sys.argv[3]), None)
print(json.dumps(sorted(sys.modules)))
"""


def test_the_same_release_makes_the_same_bytes() -> None:
    assert pack_rotation_function() == pack_rotation_function()


def test_the_zip_holds_the_room_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(pack_rotation_function())) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names[0] == "email_gateway/__init__.py"
    assert names[1:] == sorted(names[1:])
    assert "email_gateway/aws/rotation.py" in names
    assert all(name.startswith("email_gateway/aws/") and name.endswith(".py") for name in names[1:])
    assert {(entry.date_time, entry.external_attr >> 16) for entry in entries} == {((1980, 1, 1, 0, 0, 0), 0o644)}


def test_the_command_tells_path_digest_and_handler(tmp_path: Path) -> None:
    output = tmp_path / "function.zip"
    answer = CliRunner().invoke(app, ["aws", "rotation-zip", "--output", str(output), "--json"])
    assert json.loads(answer.output) == {
        "path": str(output),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "handler": "email_gateway.aws.rotation.handler",
    }


def test_people_are_told_the_next_step(tmp_path: Path) -> None:
    output = tmp_path / "function.zip"
    told = CliRunner().invoke(app, ["aws", "rotation-zip", "--output", str(output)]).output
    for part in (str(output), "email_gateway.aws.rotation.handler", "create-function", "python3.12", "GATEWAY_URL"):
        assert part in told


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["aws", "rotation-zip", "--output", str(tmp_path / "no" / "function.zip")])
    assert isinstance(answer.exception, exits.CommandFailed)
    assert str(tmp_path) in str(answer.exception)


@pytest.fixture
def zip_file(tmp_path: Path) -> Path:
    path = tmp_path / "rotation.zip"
    path.write_bytes(pack_rotation_function())
    return path


def test_the_zip_takes_a_step_with_boto3_beside_it_alone(zip_file: Path) -> None:
    with moto_server() as url:
        client = connect(url)
        create_secrets(client, "zipped", {"encryption-key": "an-old-encryption-key-of-40-characters!!"})
        # moto leaves the pending version and the flag even though it then looks for the function in vain.
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.rotate_secret(
                SecretId="zipped/encryption-key",
                RotationLambdaARN=f"arn:aws:lambda:{REGION}:123456789012:function:absent",
                RotationRules={"AutomaticallyAfterDays": 90},
            )
        described = client.describe_secret(SecretId="zipped/encryption-key")
        (pending,) = [key for key, labels in described["VersionIdsToStages"].items() if "AWSPENDING" in labels]
        event = {"Step": "createSecret", "SecretId": described["ARN"], "ClientRequestToken": pending}
        done = subprocess.run(
            # -S as well, or the paths of editable installs would count.
            [sys.executable, "-I", "-S", "-c", PROGRAM, str(zip_file), str(SITE_PACKAGES), json.dumps(event)],
            env={**AWS_ENVIRONMENT, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": url},
            capture_output=True,
            text=True,
            check=True,
        )
        made = client.get_secret_value(SecretId=described["ARN"], VersionId=pending, VersionStage="AWSPENDING")
    assert len(made["SecretString"]) == 44
    modules = set(json.loads(done.stdout))
    ours = {name for name in modules if name.partition(".")[0] == "email_gateway"}
    assert all(name == "email_gateway" or name.startswith("email_gateway.aws") for name in ours)
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - ALLOWED - {"email_gateway"}
    assert {name for name in others if (SITE_PACKAGES / name).exists()} == set()
