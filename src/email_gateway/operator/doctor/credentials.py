"""Whose AWS credentials this machine has, where they come from, and whether its metadata service asks for tokens."""

import http.client
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.subject import Subject
from email_gateway.secrets.failures import Failure
from email_gateway.secrets.secrets_manager import classify
from email_gateway.secrets.threads import call_in_thread

IMDS_SECONDS = 1.0
IMDS = "http://169.254.169.254"
# What botocore calls the sources of credentials.
SOURCES = {
    "iam-role": "the instance's role",
    "container-role": "the task's or pod's role",
    "assume-role-with-web-identity": "the service account's role",
    "assume-role": "an assumed role",
    "env": "keys in the environment",
    "shared-credentials-file": "keys in a file",
    "config-file": "keys in a file",
    "sso": "a person's single sign-on",
}
LASTING = ("env", "shared-credentials-file", "config-file")
WHO = "aws sts get-caller-identity"
SEE_OPTIONS = (
    "aws ec2 describe-instances --query 'Reservations[].Instances[].[InstanceId,MetadataOptions.HttpTokens]'"
    " --output text"
)


@dataclass(frozen=True, slots=True)
class AwsClients:
    """Makes clients for this region and endpoint, with short timeouts."""

    session: boto3.session.Session
    endpoint_url: str | None
    limits: Config

    @classmethod
    def of(cls, subject: Subject) -> "AwsClients":
        """Raise BotoCoreError where the AWS profile cannot be used."""
        limits = Config(
            connect_timeout=subject.bound / 4, read_timeout=subject.bound / 2, retries={"total_max_attempts": 1}
        )
        session = boto3.session.Session(region_name=subject.aws_region)
        return cls(session, subject.settings.aws_endpoint_url, limits)

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a client in this region, or in the one of the secrets."""
        # mypy knows the one service whose types are installed; the others are asked one question each.
        make: Any = self.session.client
        return make(service, region, endpoint_url=self.endpoint_url, config=self.limits)


async def check_credentials(clients: AwsClients, subject: Subject) -> list[Finding]:
    """Say which role this process has; and on an instance, whether its metadata service asks for tokens."""
    found = await call_in_thread(clients.session.get_credentials)
    if found is None:
        return [
            broken(
                "credentials",
                "this process has no AWS credentials",
                "AWS refuses every call. Give the instance a profile, the task a task role, or the pod a service account.",
                "aws configure list",
            )
        ]
    identity = await call_in_thread(lambda: _identify(clients, found, subject))
    if found.method != "iam-role":
        return [identity]
    base = clients.session._session.get_config_variable("ec2_metadata_service_endpoint") or IMDS  # noqa: SLF001  (public in botocore, hidden by boto3)
    return [identity, await call_in_thread(lambda: check_metadata_service(base))]


def _identify(clients: AwsClients, found: Credentials, subject: Subject) -> Finding:
    source = SOURCES.get(found.method, found.method)
    try:
        arn = clients.client("sts").get_caller_identity()["Arn"]
        who = f"{_short(arn)}, {source}"
    except (BotoCoreError, ClientError, KeyError) as error:
        failed = classify(error)
        if failed.failure is Failure.DENIED:
            return broken(
                "credentials",
                f"AWS refuses {source} ({failed.code})",
                "They have expired, were withdrawn, or belong to another account.",
                WHO,
            )
        who = f"{source}; whose is not known, since STS cannot be asked ({failed.code})"
    if subject.is_production and found.method in LASTING:
        return warning(
            "credentials",
            who,
            "Keys that last can leak and never expire: in production a role gives keys that change by themselves.",
            WHO,
        )
    return ok("credentials", who)


def _short(arn: str) -> str:
    """Return what an ARN names, without the session, which may be a person's name."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    return f"{kind} {name.partition('/')[0]}" if name else kind


def check_metadata_service(base: str) -> Finding:
    """Ask the instance's metadata service with a token (IMDSv2), and whether it answers without one too."""
    try:
        token = _ask(base, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        bare = _ask(base, "GET", "/latest/meta-data/", {})
    except (OSError, http.client.HTTPException):
        return warning(
            "imds",
            "the metadata service answered for credentials, but not when asked for a token",
            "In a container the answer to a token dies after one hop; allow two.",
            "aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-tokens required"
            " --http-put-response-hop-limit 2",
        )
    if token != http.HTTPStatus.OK:
        return skipped("imds", f"no token was given (HTTP {token})")
    if bare == http.HTTPStatus.OK:
        return warning(
            "imds",
            "the metadata service answers without a token too (IMDSv1)",
            "Whoever makes a process here fetch a URL can read the role's credentials. Require tokens.",
            SEE_OPTIONS,
        )
    return ok("imds", "tokens are required (IMDSv2)")


def _ask(base: str, method: str, path: str, headers: dict[str, str]) -> int:
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=IMDS_SECONDS)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
