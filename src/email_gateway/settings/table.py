"""The whole list of settings, each with its default and one sentence; docs/settings.md is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from email_gateway.mail.timeouts import Timeouts, parse_timeouts
from email_gateway.settings.parsing import (
    Network,
    check_smtp_url,
    parse_admin_key,
    parse_choice,
    parse_database_url,
    parse_days,
    parse_endpoint_url,
    parse_key,
    parse_listener,
    parse_networks,
    parse_number,
    parse_path,
    parse_pattern,
    parse_redis_url,
    parse_resolvers,
    parse_seconds,
    parse_switch,
)

DEPLOYED = ("production", "staging")
TRANSPORTS = ("inbox", "smtp")
LATER_TRANSPORTS = ("ses", "mx")
LOOPBACK = parse_networks("127.0.0.0/8, ::1")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator chose. Fields that may hold a credential stay out of the repr.

    The three keys are None while Secrets Manager is on: the environment is never their source then.
    `warnings` are sentences for the log; nothing they speak of stops the start.
    """

    app_env: str
    use_secrets_manager: bool
    aws_region: str | None
    aws_endpoint_url: str | None
    secrets_prefix: str
    secrets_cache: timedelta
    transport: str
    smtp_timeouts: Timeouts
    log_format: str
    log_level: str
    api_host: str
    api_port: int
    api_processes: int
    trusted_proxies: tuple[Network, ...]
    tls_cert_file: Path | None
    tls_key_file: Path | None
    worker_concurrency: int
    max_doubts: int
    route_connections: int
    route_rate: int
    key_rate: int
    key_burst: int
    tenant_daily_quota: int
    tenant_monthly_quota: int
    field_key_age: timedelta
    database_iam_auth: bool
    metrics_emf: bool
    metrics_listen: tuple[str, int] | None
    dns_resolvers: tuple[tuple[str, int], ...]
    require_verified_domains: bool
    webhook_allowed_networks: tuple[Network, ...]
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    encryption_key: str | None = field(default=None, repr=False)
    encryption_salt: str | None = field(default=None, repr=False)
    admin_api_key: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    # Not a setting: an `up` tells its children that the database's URL is that of its own server.
    is_database_embedded: bool = False

    @property
    def is_deployed(self) -> bool:
        """Whether people expect their mail from here."""
        return self.app_env in DEPLOYED

    @property
    def keeps_mail(self) -> bool:
        """Whether mail is kept where people expect it: the inbox was asked for by name."""
        return self.is_deployed and self.transport == "inbox"

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        """Where webhooks may go beside public addresses: in development to this machine."""
        return self.webhook_allowed_networks + (() if self.is_deployed else LOOPBACK)


def parse_transport(text: str) -> str:
    """Read the transport; those of a later release are refused by name."""
    if text.casefold() in LATER_TRANSPORTS:
        raise ValueError(f"cannot be {text.casefold()} yet: that transport comes in a later release; use smtp or inbox")
    return parse_choice(*TRANSPORTS)(text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable. `also` are names looked up after it; `shown` is a default that depends on others."""

    name: str
    default: str | None
    sentence: str
    parse: Callable[[str], object]
    also: tuple[str, ...] = ()
    shown: str = ""

    def name_in(self, values: Mapping[str, str]) -> str:
        return next((name for name in (self.name, *self.also) if name in values), self.name)


# A table reads better than a hundred lines of one argument each.
# fmt: off
SETTINGS = (
    Setting("APP_ENV", "development", "Where this runs: development, test, staging or production.",
            parse_choice("development", "test", *DEPLOYED), also=("NODE_ENV",)),
    Setting("USE_SECRETS_MANAGER", None,
            "Whether secrets come from AWS Secrets Manager; false is refused in production.",
            parse_switch, shown="true in production and staging"),
    Setting("AWS_REGION", None, "The region of the secrets; needed while Secrets Manager is on.",
            parse_pattern(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}", "a region such as us-east-1"),
            also=("AWS_DEFAULT_REGION",)),
    Setting("AWS_ENDPOINT_URL", None, "Another address of AWS's API: a VPC endpoint, or an emulator in tests.",
            parse_endpoint_url),
    Setting("SECRETS_PREFIX", "email-gateway", "What stands before the last slash in the names of the secrets.",
            parse_pattern(r"[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+)*",
                          "letters, digits and _+=.@-, with single slashes between parts and none at the end")),
    Setting("SECRETS_CACHE_SECONDS", "300",
            "How long a fetched secret counts as fresh; it is fetched again before that.",
            parse_seconds(1, 86_400)),
    Setting("ENCRYPTION_KEY", None,
            "The encryption key, 32 characters or more; only while Secrets Manager is off.", parse_key),
    Setting("ENCRYPTION_SALT", None,
            "The encryption salt, 32 characters or more; only while Secrets Manager is off.", parse_key),
    Setting("ADMIN_API_KEY", None,
            "The key of /admin and of the dashboard, 32 characters or more; only while Secrets Manager is off.",
            parse_admin_key),
    Setting("DATABASE_URL", None, "PostgreSQL 15 or newer; the secret `database-url` goes before it.",
            parse_database_url),
    Setting("DATABASE_IAM_AUTH", "false",
            "Whether the processes log in to RDS by IAM: a fresh token for each connection, and no password.",
            parse_switch),
    Setting("REDIS_URL", None, "Redis, for limits that several nodes share; the secret `redis-url` goes before it.",
            parse_redis_url),
    Setting("TRANSPORT", None, "How mail leaves: `smtp` through a smarthost, or `inbox`, which keeps and shows it.",
            parse_transport, shown="inbox in development and test; must be set in production and staging"),
    Setting("SMTP_URL", None, "The smarthost, smtp:// or smtps://user:password@host:port?tls=none|opportunistic|required;"
            " the secret `smtp-url` goes before it.", check_smtp_url),
    Setting("SMTP_TIMEOUTS", "", "Seconds that steps of a conversation may take where the default does not do, such as"
            " connect=5,dot=900; the steps are in docs/smtp.md.", parse_timeouts),
    Setting("API_HOST", "127.0.0.1", "The address that the API listens on.",
            parse_pattern(r"[A-Za-z0-9.:-]+", "an IP address or a host name")),
    Setting("API_PORT", "8025", "The port that the API listens on; 0 takes a free one.", parse_number(0, 65_535)),
    Setting("API_PROCESSES", "1", "How many processes serve the API on one port.", parse_number(1, 64)),
    Setting("TRUSTED_PROXIES", "", "Networks whose X-Forwarded-For counts, such as 10.0.0.0/8, separated by commas.",
            parse_networks),
    Setting("TLS_CERT_FILE", None,
            "The API's own certificate with its chain, in PEM, where no load balancer ends TLS; read again when it changes.",
            parse_path),
    Setting("TLS_KEY_FILE", None, "The key of that certificate, in PEM without a passphrase.", parse_path),
    Setting("WORKER_CONCURRENCY", "100", "How many deliveries one worker attempts at a time.",
            parse_number(1, 10_000)),
    Setting("MAX_DOUBTS", "2",
            "How often a mail in doubt is sent again by itself before it is held for an operator.",
            parse_number(0, 10)),
    Setting("ROUTE_CONNECTIONS", "20", "The most connections that one worker keeps to the smarthost.",
            parse_number(1, 1000)),
    Setting("ROUTE_RATE", "0",
            "The most recipients a second, for the whole fleet; 0 is no limit but what replies teach.",
            parse_number(0, 1_000_000)),
    Setting("DNS_RESOLVERS", "",
            "The DNS servers that are asked about sending domains, such as 10.0.0.2 or 127.0.0.1:5353, separated by commas;"
            " empty, those of the system.", parse_resolvers),
    Setting("REQUIRE_VERIFIED_DOMAINS", None,
            "Whether mail is accepted only from domains that the tenant has verified.",
            parse_switch, shown="true in production"),
    Setting("KEY_RATE", "0", "The most requests a second with one API key; 0 is no limit.", parse_number(0, 1_000_000)),
    Setting("KEY_BURST", "0", "How many of them may come at once, rounded up to whole seconds of KEY_RATE; 0 is one second's.",
            parse_number(0, 100_000_000)),
    Setting("TENANT_DAILY_QUOTA", "0", "The most recipients of one tenant in a day (UTC); 0 is no limit.",
            parse_number(0, 999_999_999)),
    Setting("TENANT_MONTHLY_QUOTA", "0", "The most recipients of one tenant in a month (UTC); 0 is no limit.",
            parse_number(0, 999_999_999)),
    Setting("FIELD_KEY_DAYS", "365", "After how many days a tenant's values are sealed under a new key; 0 is never.",
            parse_days(0, 36_500)),
    Setting("LOG_FORMAT", None, "How log lines look: json, or console for people.",
            parse_choice("json", "console"), shown="json in production and staging, else console"),
    Setting("LOG_LEVEL", "INFO", "What is logged: DEBUG, INFO, WARNING or ERROR.",
            parse_choice("DEBUG", "INFO", "WARNING", "ERROR")),
    Setting("METRICS_EMF", "false",
            "Whether each process writes its metrics to standard output every minute, for CloudWatch.", parse_switch),
    Setting("WEBHOOK_ALLOWED_NETWORKS", "",
            "Private networks to which webhooks may be sent, such as 10.20.0.0/16, separated by commas.",
            parse_networks),
    Setting("METRICS_LISTEN", None,
            "Where each process, a worker too, serves its metrics to Prometheus, such as 127.0.0.1:9464; one that"
            " finds the port taken takes the next.", parse_listener),
)
# fmt: on
FIELDS = {
    "SECRETS_CACHE_SECONDS": "secrets_cache",
    "FIELD_KEY_DAYS": "field_key_age",
}  # the others are their names in lower case


def describe_settings() -> list[tuple[str, str, str]]:
    """Return name, default and sentence of every setting, in the order of the documentation."""
    return [(setting.name, setting.shown or setting.default or "", setting.sentence) for setting in SETTINGS]
