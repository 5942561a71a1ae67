"""Whether each secret can be read and is what it should be, and the KMS key behind it; never a value."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from email_gateway.errors import ConfigurationError
from email_gateway.operator.doctor.credentials import AwsClients
from email_gateway.operator.doctor.endpoint import ask_command
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.subject import Subject
from email_gateway.secrets import Secret, SecretName
from email_gateway.secrets.clock import SystemClock
from email_gateway.secrets.failures import DELETED_CODE, INVALID_VALUE_CODE, Failure, FetchFailed, advise
from email_gateway.secrets.fetching import Fetcher
from email_gateway.secrets.secret import FROM_ENVIRONMENT, SECRETS
from email_gateway.secrets.secrets_manager import CallLimits, SecretsManagerSource, classify
from email_gateway.secrets.source import EnvironmentSource, SecretSource
from email_gateway.secrets.threads import call_in_thread

# What the runbook asks for: every 90 days the keys, every 60 days the admin key.
ROTATION_DAYS = {SecretName.ENCRYPTION_KEY: 90, SecretName.ADMIN_API_KEY: 60}


@dataclass(frozen=True, slots=True)
class Values:
    """The secrets that could be read, what there is to say, and whether one is out of reach that others need."""

    held: Mapping[str, Secret] = field(repr=False)
    findings: tuple[Finding, ...]
    is_complete: bool


async def read_secrets(subject: Subject) -> Values:
    """Read every secret once, as a process does at its start; nothing is kept but in the answer."""
    try:
        source = await _open_source(subject)
    except ConfigurationError as error:
        lost = broken("secrets", "the AWS client cannot be made", str(error), "aws configure list")
        return Values({}, (lost,), is_complete=False)
    try:
        with subject.steps.timed("secrets"):
            answers = await Fetcher(source, subject.settings, SystemClock()).fetch_all({})
    finally:
        await source.close()
    held: dict[str, Secret] = {name: answer for name, answer in answers.items() if isinstance(answer, Secret)}
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, FetchFailed)}
    findings = _judge_failures(subject, failed)
    if held:
        findings.append(_judge_read(subject, held))
    return Values(held, tuple(findings), is_complete=not failed)


async def _open_source(subject: Subject) -> SecretSource:
    if not subject.settings.use_secrets_manager:
        return EnvironmentSource(subject.settings)
    with subject.steps.timed("aws client"):
        # One try: the processes repeat what was throttled, a doctor says that it was.
        limits = CallLimits(subject.bound / 4, subject.bound / 2, attempts=1, deadline=subject.bound * 3 / 4)
        return await SecretsManagerSource.open(subject.settings, limits)


def _judge_read(subject: Subject, held: Mapping[str, Secret]) -> Finding:
    needed = [known.name for known in SECRETS if known.is_critical]
    readable = [name for name in needed if name in held]
    optional = [
        f"{name}{' from its setting' if secret.version_id == FROM_ENVIRONMENT and _is_on(subject) else ''}"
        for name, secret in held.items()
        if name not in needed
    ]
    where = "Secrets Manager" if _is_on(subject) else "the environment"
    seen = f"{len(readable)} of {len(needed)} that are needed are right, from {where}"
    if optional:
        seen += f"; also {', '.join(optional)}"
    return ok("secrets", seen) if len(readable) == len(needed) else skipped("secrets", seen)


def _is_on(subject: Subject) -> bool:
    return subject.settings.use_secrets_manager


def _judge_failures(subject: Subject, failed: Mapping[SecretName, FetchFailed]) -> list[Finding]:
    """Return one finding for all secrets with the same failure: its cause is likely one."""
    groups: dict[tuple[str, str], list[SecretName]] = {}
    for name, failure in failed.items():
        groups.setdefault((failure.code, advise(failure)), []).append(name)
    found = []
    for (code, advice), names in groups.items():
        seen = f"{', '.join(subject.full_name(name) for name in names)}: {code} in {subject.aws_region}"
        found.append(broken("secrets", seen, advice, _next_step(subject, names[0], failed[names[0]])))
    return found


def _next_step(subject: Subject, name: SecretName, failed: FetchFailed) -> str:
    secret = f"--secret-id {subject.full_name(name)} --region {subject.aws_region}"
    if failed.code == DELETED_CODE:
        return f"aws secretsmanager restore-secret {secret}"
    if failed.code == INVALID_VALUE_CODE:
        return f"aws secretsmanager put-secret-value {secret} --secret-string file://{name}.txt"
    if failed.code.startswith("DecryptionFailure"):
        return f"aws secretsmanager describe-secret {secret} --query KmsKeyId"
    match failed.failure:
        case Failure.NOT_FOUND:
            return f"aws secretsmanager describe-secret {secret}"
        case Failure.THROTTLED:
            return (
                "aws cloudtrail lookup-events --max-results 20 --lookup-attributes"
                f" AttributeKey=EventName,AttributeValue=GetSecretValue --region {subject.aws_region}"
            )
        case Failure.DENIED:
            return f"aws secretsmanager get-secret-value {secret} --query VersionId"
    return ask_command(endpoint_url(subject))


def endpoint_url(subject: Subject) -> str:
    """Return where Secrets Manager is asked, as far as it can be told without the AWS client."""
    return subject.settings.aws_endpoint_url or f"https://secretsmanager.{subject.aws_region}.amazonaws.com"


async def check_keys(clients: AwsClients, subject: Subject, held: Mapping[str, Secret]) -> list[Finding]:
    """Say which KMS keys the secrets in Secrets Manager are under, whether those can be used, and what is old."""
    names = [name for name in SecretName if name in held and held[name].version_id != FROM_ENVIRONMENT]
    client = await call_in_thread(partial(clients.client, "secretsmanager"))
    full_names = [subject.full_name(name) for name in names]
    described = await asyncio.gather(*(call_in_thread(partial(_describe, client, name)) for name in full_names))
    known = {name: answer for name, answer in zip(names, described, strict=True) if answer is not None}
    if not known:
        return [ok("kms key", "not known: this role may not describe the secrets, and need not")]
    key_ids = sorted({str(answer["KmsKeyId"]) for answer in known.values() if answer.get("KmsKeyId")})
    findings = await call_in_thread(lambda: [_judge_key(clients, subject, key_id) for key_id in key_ids])
    if any(not answer.get("KmsKeyId") for answer in known.values()):
        findings.append(_judge_default_key(subject))
    return [*findings, *(_judge_ages(subject, known) if subject.is_production else ())]


def _describe(client: Any, full_name: str) -> dict[str, Any] | None:
    try:
        return dict(client.describe_secret(SecretId=full_name))
    except (BotoCoreError, ClientError):
        return None


def _judge_key(clients: AwsClients, subject: Subject, key_id: str) -> Finding:
    where = f"--key-id {key_id} --region {subject.aws_region}"
    try:
        state = str(clients.client("kms").describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"])
    except (BotoCoreError, ClientError, KeyError) as error:
        failed = classify(error)
        if failed.code == "NotFoundException":
            return broken(
                "kms key",
                f"{key_id} does not exist",
                "Nobody can read what it sealed.",
                f"aws kms describe-key {where}",
            )
        return ok("kms key", f"{key_id}; its state is not known ({failed.code})")
    if state == "Enabled":
        return ok("kms key", f"{key_id} is enabled")
    step = "cancel-key-deletion" if state == "PendingDeletion" else "enable-key"
    return broken(
        "kms key",
        f"{key_id} is {state}",
        "Secrets under this key cannot be read: processes that run go on with what they hold, none can start."
        + (
            " Once it is deleted they are lost; cancelled, it still has to be enabled."
            if step.startswith("cancel")
            else ""
        ),
        f"aws kms {step} {where}",
    )


def _judge_default_key(subject: Subject) -> Finding:
    if not subject.is_production:
        return ok("kms key", "aws/secretsmanager, the account's own")
    return warning(
        "kms key",
        "some secrets are under aws/secretsmanager, the account's own key",
        "Whoever may read secrets in this account may decrypt these. A key of the gateway's own names who may.",
        f"aws kms create-alias --alias-name alias/{subject.settings.secrets_prefix} --target-key-id KEY"
        f" --region {subject.aws_region}",
    )


def _judge_ages(subject: Subject, known: Mapping[SecretName, dict[str, Any]]) -> list[Finding]:
    findings = []
    for name, days in ROTATION_DAYS.items():
        changed = known.get(name, {}).get("LastChangedDate")
        if changed is None:
            continue
        age = datetime.now(UTC) - changed.astimezone(UTC)
        if age <= timedelta(days=days) or known[name].get("RotationEnabled"):
            findings.append(ok("rotation", f"{name} changed {age.days} days ago"))
        else:
            findings.append(
                warning(
                    "rotation",
                    f"{name} has not changed for {age.days} days, and does not rotate by itself",
                    f"It should change every {days} days: docs/rotation.md sets it up.",
                    f"aws secretsmanager rotate-secret --secret-id {subject.full_name(name)}"
                    f" --rotation-lambda-arn FUNCTION --rotation-rules AutomaticallyAfterDays={days}",
                )
            )
    return findings
