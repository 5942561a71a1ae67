"""kubernetes.yaml, ecs.yaml, the systemd units and stores.yaml: valid, hardened, probed and drained as the processes need it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from email_gateway.api import server
from email_gateway.api.routes import ROUTES
from email_gateway.cli.exits import EX_CONFIG
from email_gateway.operator.roles import NAMESPACE, SERVICE_ACCOUNT
from email_gateway.operator.template_files import get_template
from email_gateway.settings import advise_tls, describe_settings, load_settings
from email_gateway.store import database
from email_gateway.up import children
from email_gateway.worker import GRACE
from tests.operator.cloudformation import ACCOUNT, Stack

OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(get_template("kubernetes.yaml")))
# The oldest in which a pod may wait by itself before it is stopped, and the newest whose schema we have.
KUBERNETES = ("1.30", "1.37")
SETTINGS = {name for name, _, _ in describe_settings()}
PATHS = {route.path for route in ROUTES}
PARTS = ("api", "worker")
DATABASE_URL = "postgresql://email_gateway_process@db:5432/email_gateway?sslmode=verify-full&sslrootcert=/etc/email-gateway/rds-ca.pem"
# What a process takes to end: its own grace, or that of the one that keeps several; then its connections are closed.
LONGEST_DRAIN = (
    max(server.GRACE_SECONDS, GRACE.total_seconds(), children.GRACE_SECONDS) + database.CLOSE_TIMEOUT_SECONDS
)


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


def pod_of(part: str) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("Deployment")[part]["spec"]["template"]["spec"]
    return spec


def container_of(part: str) -> dict[str, Any]:
    (container,) = pod_of(part)["containers"]
    return dict(container)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifests_are_valid(version: str) -> None:
    import kubernetes_validate

    for each in OBJECTS:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    import kubernetes_validate

    wrong = {**of_kind("Deployment")["api"], "spec": {**of_kind("Deployment")["api"]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("part", PARTS)
def test_pods_are_as_the_restricted_standard_asks_and_their_root_is_read_only(part: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/
    pod, container = pod_of(part), container_of(part)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,  # as the Dockerfile's
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert of_kind("Namespace")[NAMESPACE]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert pod["serviceAccountName"] == SERVICE_ACCOUNT
    assert pod["automountServiceAccountToken"] is False
    assert set(of_kind("ServiceAccount")) == {SERVICE_ACCOUNT}


def test_probes_ask_what_the_api_serves_and_only_readiness_asks_for_the_database() -> None:
    container = container_of("api")
    asked = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": "/v1/health/livez",
        "liveness": "/v1/health/livez",
        "readiness": "/v1/health/readyz",
    }
    assert set(asked.values()) <= PATHS
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > 2 * 15  # a start's patience: secrets, then database
    assert not [key for key in container_of("worker") if key.endswith("Probe")]


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_is_given_the_time_that_it_takes_to_end(part: str) -> None:
    waits = container_of(part).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod_of(part)["terminationGracePeriodSeconds"] >= waits + LONGEST_DRAIN
    assert (waits > 0) is (part == "api")


@pytest.mark.parametrize("part", PARTS)
def test_of_each_part_one_pod_may_be_away(part: str) -> None:
    deployment, budget = of_kind("Deployment")[part]["spec"], of_kind("PodDisruptionBudget")[part]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": deployment["selector"]}
    assert deployment["replicas"] >= 2
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()


def test_the_settings_exist_hold_no_secret_and_start_a_production() -> None:
    given = of_kind("ConfigMap")["email-gateway"]["data"]
    api = {each["name"]: each["value"] for each in container_of("api")["env"]}
    assert {*given, *api} <= SETTINGS
    filled = {**given, **api, "AWS_REGION": "sa-east-1", "TRUSTED_PROXIES": "10.0.0.0/8"}
    settings = load_settings({**filled, "DATABASE_URL": given["DATABASE_URL"].replace("DATABASE_HOST", "db")})
    assert settings.database_url == DATABASE_URL
    assert settings.warnings == ()
    assert given["DATABASE_URL"].rpartition("=")[2].startswith(container_of("api")["volumeMounts"][0]["mountPath"])


def ecs() -> Stack:
    given = {"Image": "image", "DatabaseUrl": DATABASE_URL, "LoadBalancerNetwork": "10.0.0.0/16"}
    return Stack("ecs.yaml", {**given, "ReaderRoleArn": f"arn:aws:iam::{ACCOUNT}:role/reader"})


def test_tasks_are_hardened_and_drained_and_have_the_readers_role() -> None:
    tasks = ecs().of_type("AWS::ECS::TaskDefinition")
    assert [task["ContainerDefinitions"][0]["Command"] for task in tasks.values()] == [["api"], ["worker"]]
    for task in tasks.values():
        (container,) = task["ContainerDefinitions"]
        assert container["User"] == "10001:10001"
        assert container["ReadonlyRootFilesystem"] is True
        assert container["LinuxParameters"] == {"Capabilities": {"Drop": ["ALL"]}}
        assert "Secrets" not in container  # ECS would put them into the environment
        assert LONGEST_DRAIN <= container["StopTimeout"] <= 120  # Fargate's most
        assert task["TaskRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/reader"
        assert task["ExecutionRoleArn"] != task["TaskRoleArn"]


def test_a_tasks_settings_start_a_production() -> None:
    for task in ecs().of_type("AWS::ECS::TaskDefinition").values():
        (container,) = task["ContainerDefinitions"]
        environ = {each["Name"]: each["Value"] for each in container["Environment"]}
        assert set(environ) <= SETTINGS
        assert load_settings(environ).warnings == ()
        check = container.get("HealthCheck", {}).get("Command", ["/v1/health/livez"])[-1]
        assert any(path in check for path in PATHS if path.startswith("/v1/health"))


@pytest.fixture(params=PARTS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit that starts the command of this environment."""
    file = tmp_path / f"email-gateway-{request.param}.service"
    command = Path(sys.executable).with_name("email-gateway")
    file.write_text(get_template(file.name).replace("/opt/email-gateway/.venv/bin/email-gateway", str(command)))
    return file


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_calls_a_unit_well_hardened(unit: Path) -> None:
    # Of 10; what is left is that it talks over the network, and sees the files of the machine.
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", unit], check=False, capture_output=True
    )
    assert done.returncode == 0


def test_a_unit_gives_time_to_end_and_does_not_start_what_cannot_start(unit: Path) -> None:
    options = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    assert int(options["TimeoutStopSec"]) >= LONGEST_DRAIN
    assert int(options["RestartPreventExitStatus"]) == EX_CONFIG
    assert options["ExecStart"].rpartition(" ")[2] in PARTS


def stores(**parameters: str) -> Stack:
    return Stack("stores.yaml", {"KeyArn": "key", "ReaderRoleName": "reader", "AdministratorRoleName": "administrator", **parameters},
                 {"Database.Endpoint.Address": "db", "Database.Endpoint.Port": "5432", "Database.DbiResourceId": "db-1",
                  "Redis.PrimaryEndPoint.Address": "redis", "Redis.PrimaryEndPoint.Port": "6379"})  # fmt: skip


def test_the_database_is_encrypted_in_two_zones_and_entered_by_iam_over_tls() -> None:
    stack = stores()
    (database,) = stack.of_type("AWS::RDS::DBInstance").values()
    for name in ("MultiAZ", "StorageEncrypted", "EnableIAMDatabaseAuthentication", "DeletionProtection"):
        assert database[name] is True
    assert database["PubliclyAccessible"] is False
    assert database["KmsKeyId"] == "key"
    assert database["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in database
    (parameters,) = stack.of_type("AWS::RDS::DBParameterGroup").values()
    assert parameters["Parameters"]["rds.force_ssl"] == "1"
    assert stack.resources["Database"]["DeletionPolicy"] == "Snapshot"


def test_each_login_belongs_to_the_role_that_needs_it() -> None:
    policies = stores().of_type("AWS::IAM::ManagedPolicy").values()
    found = {each["Roles"][0]: each["PolicyDocument"]["Statement"] for each in policies}
    for role, login in (("reader", "email_gateway_process"), ("administrator", "email_gateway_migrator")):
        (statement,) = found[role]
        assert statement["Action"] == ["rds-db:connect"]
        assert statement["Resource"] == f"arn:aws:rds-db:us-east-1:{ACCOUNT}:dbuser:db-1/{login}"


def test_the_databases_url_has_no_password_and_is_verified() -> None:
    stack = stores()
    url = stack.resolve(stack.template["Outputs"]["DatabaseUrl"]["Value"])
    assert url == DATABASE_URL
    assert advise_tls("DATABASE_URL", url) is None


def test_redis_is_encrypted_and_its_url_is_the_secret_that_the_gateway_reads() -> None:
    stack = stores()
    (redis,) = stack.of_type("AWS::ElastiCache::ReplicationGroup").values()
    for name in ("TransitEncryptionEnabled", "AtRestEncryptionEnabled", "AutomaticFailoverEnabled", "MultiAZEnabled"):
        assert redis[name] is True
    secrets = stack.of_type("AWS::SecretsManager::Secret")
    assert secrets["RedisUrl"]["Name"] == "email-gateway/redis-url"
    assert secrets["RedisUrl"]["SecretString"].startswith("rediss://:{{resolve:")
    assert stack.resources["RedisUrl"]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize(("parameter", "gone"), [("MakeDatabase", "RDS"), ("MakeRedis", "ElastiCache")])
def test_either_store_can_be_left_out(parameter: str, gone: str) -> None:
    kinds = {each["Type"].split("::")[1] for each in stores(**{parameter: "no"}).resources.values()}
    assert gone not in kinds
    assert kinds & {"RDS", "ElastiCache"}
    assert "SecretsManager" in kinds or parameter == "MakeRedis"
