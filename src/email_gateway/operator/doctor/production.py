"""The production checklist, as far as settings and URLs tell; what the checks measure they judge themselves."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from email_gateway.mail.smarthosts import parse_smtp_url
from email_gateway.operator.doctor.findings import Finding, Level, ok
from email_gateway.operator.doctor.subject import Subject, value_of
from email_gateway.secrets import Secret, SecretName
from email_gateway.settings import Settings, advise_tls

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Point(NamedTuple):
    """One point of the list: whether it is met, and what to say where it is not."""

    is_met: bool
    level: Level
    seen: str
    means: str
    next_step: str


def check_list(subject: Subject, held: Mapping[str, Secret], database_url: str | None) -> list[Finding]:
    """Go through what must be so where people expect their mail; one finding for each point that is not."""
    points = [*_points_of_settings(subject.settings), *_points_of_connections(subject, held, database_url)]
    found = [Finding("checklist", *point[1:]) for point in points if not point.is_met]
    return found or [ok("checklist", "settings and connections are as production asks")]


def _points_of_settings(settings: Settings) -> list[Point]:
    return [
        Point(
            settings.app_env == "production",
            Level.BROKEN,
            f"APP_ENV is {settings.app_env}",
            "Only production refuses what is convenient elsewhere: set APP_ENV=production.",
            "export APP_ENV=production",
        ),
        Point(
            settings.use_secrets_manager,
            Level.BROKEN,
            "Secrets Manager is off",
            "Keys stand in the environment, where no one sees who reads them: set USE_SECRETS_MANAGER=true.",
            "export USE_SECRETS_MANAGER=true",
        ),
        Point(
            settings.transport == "smtp",
            Level.BROKEN,
            f"TRANSPORT is {settings.transport}",
            "No mail leaves: set TRANSPORT=smtp.",
            "export TRANSPORT=smtp",
        ),
        Point(
            settings.require_verified_domains,
            Level.WARNING,
            "REQUIRE_VERIFIED_DOMAINS is off",
            "Any tenant may send from any domain, also unsigned: add and verify the domains, then remove the setting.",
            "email-gateway domains list",
        ),
        Point(
            settings.log_format == "json",
            Level.WARNING,
            f"LOG_FORMAT is {settings.log_format}",
            "Whatever collects logs reads lines of JSON: set LOG_FORMAT=json.",
            "export LOG_FORMAT=json",
        ),
        Point(
            settings.log_level != "DEBUG",
            Level.WARNING,
            "LOG_LEVEL is DEBUG",
            "It is noise, and costs: set INFO.",
            "export LOG_LEVEL=INFO",
        ),
        Point(
            settings.api_host in LOOPBACK or bool(settings.trusted_proxies) or settings.tls_cert_file is not None,
            Level.WARNING,
            "API_HOST is open and TRUSTED_PROXIES is empty",
            "The API speaks plain HTTP, and takes the balancer for every client: put TLS in front, and name the"
            " balancer's network; or give it a certificate of its own, TLS_CERT_FILE.",
            "export TRUSTED_PROXIES=10.0.0.0/8",
        ),
    ]


def _points_of_connections(subject: Subject, held: Mapping[str, Secret], database_url: str | None) -> list[Point]:
    settings = subject.settings
    redis = urlsplit(value_of(held, SecretName.REDIS_URL, settings.redis_url) or "")
    smtp = value_of(held, SecretName.SMTP_URL, settings.smtp_url) if settings.transport == "smtp" else None
    return [
        Point(
            subject.home_url is None or database_url != subject.home_url,
            Level.WARNING,
            "the database is the embedded one",
            "It has no replica and no backup but yours: production wants a managed or replicated PostgreSQL.",
            "email-gateway migrate --url-file owner.url  # makes the schema in the new one",
        ),
        Point(
            advise_tls("DATABASE_URL", database_url) is None,
            Level.BROKEN,
            "PostgreSQL is reached without verified TLS",
            "The connection to PostgreSQL may be read or redirected: add sslmode=verify-full to its URL.",
            _put(subject, SecretName.DATABASE_URL),
        ),
        Point(
            bool(redis.scheme),
            Level.WARNING,
            "there is no Redis",
            "Without it each process limits for itself: several allow several times as much.",
            _put(subject, SecretName.REDIS_URL),
        ),
        Point(
            not redis.scheme or redis.hostname in LOOPBACK or _is_verified(redis),
            Level.BROKEN,
            "Redis is reached without verified TLS",
            "Its password crosses the network in clear, or reaches somebody else: use rediss://, and leave ssl_cert_reqs"
            " and ssl_check_hostname out of its URL.",
            _put(subject, SecretName.REDIS_URL),
        ),
        Point(
            smtp is None or parse_smtp_url(smtp).tls.is_verified,
            Level.BROKEN,
            "the smarthost is reached without verified TLS",
            "Mail may cross the network in clear, or reach somebody else: use smtps://, or tls=required.",
            _put(subject, SecretName.SMTP_URL),
        ),
    ]


def _is_verified(redis: SplitResult) -> bool:
    """Tell whether Redis must prove who it is: over TLS the client asks for that, unless the URL says otherwise."""
    return redis.scheme == "rediss" and not {"ssl_cert_reqs", "ssl_check_hostname"} & set(parse_qs(redis.query))


def _put(subject: Subject, name: SecretName) -> str:
    return (
        f"aws secretsmanager put-secret-value --secret-id {subject.full_name(name)} --secret-string file://{name}.txt"
    )
