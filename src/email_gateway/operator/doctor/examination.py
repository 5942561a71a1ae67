"""The examination: first what everything needs (AWS, the secrets), then what they lead to; each in parallel and bounded."""

import asyncio
import ssl
import time
from collections.abc import Awaitable

from botocore.exceptions import BotoCoreError

from email_gateway.errors import GatewayError
from email_gateway.operator.doctor.credentials import AwsClients, check_credentials
from email_gateway.operator.doctor.database import check_database
from email_gateway.operator.doctor.domains import check_domains
from email_gateway.operator.doctor.endpoint import ask_command, check_endpoint
from email_gateway.operator.doctor.findings import AGAIN, Finding, Report, broken, ok, skipped, warning
from email_gateway.operator.doctor.production import check_list
from email_gateway.operator.doctor.redis_server import check_redis
from email_gateway.operator.doctor.secret_values import Values, check_keys, endpoint_url, read_secrets
from email_gateway.operator.doctor.smarthost import check_smarthost
from email_gateway.operator.doctor.subject import Subject, check_start, value_of
from email_gateway.secrets import SecretName


async def examine(subject: Subject, trust: ssl.SSLContext | None = None) -> Report:
    """Look at everything, change nothing, and return within twice `subject.bound` and a little.

    `trust` replaces the system's certificate authorities where the smarthost is asked.
    """
    began = time.monotonic()
    aws, values = await asyncio.gather(_check_aws(subject), _read_secrets(subject))
    settings, url = subject.settings, subject.database_url(values.held)
    redis_url = value_of(values.held, SecretName.REDIS_URL, settings.redis_url)
    smtp_url = value_of(values.held, SecretName.SMTP_URL, settings.smtp_url)
    keys, database, redis, smarthost, domains = await asyncio.gather(
        _bounded("kms key", subject.bound, _check_keys(subject, values)),
        _bounded("postgresql", subject.bound, check_database(subject, url, values)),
        _bounded("redis", subject.bound, _alone(check_redis(subject, redis_url, values))),
        _bounded("smarthost", subject.bound, check_smarthost(subject, smtp_url, values, trust)),
        _bounded("domains", subject.bound, check_domains(subject, url, values)),
    )
    findings = [*_judge_settings(subject), *aws, *values.findings, *keys, *database, *redis, *smarthost, *domains]
    if subject.is_production:
        findings += check_list(subject, values.held, url)
    return Report([*findings, check_start(subject)], time.monotonic() - began)


def _judge_settings(subject: Subject) -> list[Finding]:
    warnings = [
        warning(
            "settings",
            sentence.partition(":")[0].rstrip("."),
            sentence,
            f"{AGAIN}  # once it is changed; docs/settings.md lists every setting",
        )
        for sentence in subject.settings.warnings
    ]
    return warnings or [ok("settings", f"APP_ENV is {subject.settings.app_env}")]


async def _check_aws(subject: Subject) -> list[Finding]:
    if not subject.settings.use_secrets_manager:
        return [ok("aws", "not asked: Secrets Manager is off")]
    try:
        clients = await asyncio.to_thread(AwsClients.of, subject)
        endpoint = str((await asyncio.to_thread(clients.client, "secretsmanager")).meta.endpoint_url)
    except (BotoCoreError, ValueError) as error:
        return [
            broken(
                "aws",
                f"no client can be made ({type(error).__name__})",
                "AWS_REGION, AWS_ENDPOINT_URL or AWS_PROFILE is wrong.",
                "aws configure list",
            )
        ]
    known = await asyncio.to_thread(clients.session.get_available_regions, "secretsmanager")
    region = ok("region", subject.aws_region)
    if subject.aws_region not in known:
        region = warning(
            "region",
            f"{subject.aws_region} is none that this release knows",
            "A typing error ends in a name that does not resolve.",
            "aws ec2 describe-regions --output text",
        )
    credentials, reached = await asyncio.gather(
        _bounded("credentials", subject.bound, check_credentials(clients, subject)),
        _bounded("endpoint", subject.bound, check_endpoint(endpoint, subject.bound)),
    )
    return [*credentials, region, *reached]


async def _read_secrets(subject: Subject) -> Values:
    try:
        async with asyncio.timeout(subject.bound):
            return await read_secrets(subject)
    except TimeoutError:
        return Values({}, (_late("secrets", subject.bound, ask_command(endpoint_url(subject))),), is_complete=False)
    except Exception as error:  # noqa: BLE001  (as below)
        return Values({}, (_lost("secrets", error),), is_complete=False)


async def _check_keys(subject: Subject, values: Values) -> list[Finding]:
    if not subject.settings.use_secrets_manager:
        return []
    if not values.held:
        return [skipped("kms key", "no secret can be read")]
    return await check_keys(await asyncio.to_thread(AwsClients.of, subject), subject, values.held)


async def _alone(check: Awaitable[Finding]) -> list[Finding]:
    return [await check]


async def _bounded(name: str, seconds: float, check: Awaitable[list[Finding]]) -> list[Finding]:
    """Return the check's findings, or one that says why there are none: no check holds up or breaks the others."""
    try:
        async with asyncio.timeout(seconds):
            return await check
    except TimeoutError:
        return [_late(name, seconds, AGAIN)]
    except GatewayError as error:
        return [broken(name, "failed while it was looked at", str(error), AGAIN)]
    except Exception as error:  # noqa: BLE001  (a doctor that dies of one check says nothing of the others)
        return [_lost(name, error)]


def _late(name: str, seconds: float, next_step: str) -> Finding:
    means = "Something on the way takes packets and does not answer: most likely a firewall or a server that hangs."
    return broken(name, f"no answer within {seconds:.0f} s", means, next_step)


def _lost(name: str, error: Exception) -> Finding:
    # Not its text: that of a library's error may hold values.
    means = "A library gave up. Its configuration (~/.aws/config, a profile, certificates) may be damaged."
    return broken(name, f"could not be looked at ({type(error).__name__})", means, f"LOG_LEVEL=DEBUG {AGAIN}")
