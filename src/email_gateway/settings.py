"""Every setting: one frozen object, made by the one reader of the environment.

`SETTINGS` is the whole list, each with its default and one sentence; docs/settings.md is made from
it. Values of secrets in Secrets Manager are no settings: the `secrets` room fetches them.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from dotenv import dotenv_values

from email_gateway.errors import ConfigurationError

Network = IPv4Network | IPv6Network

DEPLOYED = ("production", "staging")
MIN_KEY_CHARACTERS = 32
MAX_KEY_CHARACTERS = 4096
ASCII_WHITE_SPACE = " \t\n\r\v\f"
TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
LATER_TRANSPORTS = ("ses", "mx")


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
    log_format: str
    log_level: str
    api_host: str
    api_port: int
    api_processes: int
    trusted_proxies: tuple[Network, ...]
    worker_concurrency: int
    field_key_age: timedelta
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    encryption_key: str | None = field(default=None, repr=False)
    encryption_salt: str | None = field(default=None, repr=False)
    admin_api_key: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


# Parsers: text in, value out; the ValueError says what the value must be and never what it was.


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of these words, in any case."""
    by_folded = {choice.casefold(): choice for choice in choices}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return by_folded[text.casefold()]

    return parse


def parse_switch(text: str) -> bool:
    """Read true or false, also as 1/0, yes/no, on/off."""
    if text.casefold() not in TRUE + FALSE:
        raise ValueError("must be true or false")
    return text.casefold() in TRUE


def parse_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within these limits, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def parse_seconds(lowest: int, highest: int) -> Callable[[str], timedelta]:
    """Return a parser of a number of whole seconds within these limits."""
    number = parse_number(lowest, highest)
    return lambda text: timedelta(seconds=number(text))


def parse_days(lowest: int, highest: int) -> Callable[[str], timedelta]:
    """Return a parser of a number of whole days within these limits."""
    number = parse_number(lowest, highest)
    return lambda text: timedelta(days=number(text))


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read networks such as 10.0.0.0/8 or ::1, separated by commas or blanks."""
    try:
        return tuple(ip_network(part) for part in text.replace(",", " ").split())
    except ValueError:
        # What ipaddress says quotes the text.
        raise ValueError("must be networks such as 10.0.0.0/8 or 192.0.2.7, no host bits set") from None


def parse_pattern(pattern: str, what: str) -> Callable[[str], str]:
    """Return a parser that takes text of this pattern; `what` follows "must be"."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}")
        return text

    return parse


def parse_key(text: str) -> str:
    """Take an encryption key or salt: printable, at least 32 characters, otherwise as it stands."""
    if len(text) < MIN_KEY_CHARACTERS:
        raise ValueError(f"must have at least {MIN_KEY_CHARACTERS} characters")
    if len(text) > MAX_KEY_CHARACTERS or not text.isprintable():
        raise ValueError(f"must be at most {MAX_KEY_CHARACTERS} printable characters on one line")
    return text


def parse_admin_key(text: str) -> str:
    """Take an admin key: a key that can also travel in an HTTP header (visible ASCII, RFC 9110 section 5.5)."""
    if not re.fullmatch(r"[!-~]*", text):
        raise ValueError("must be visible ASCII characters without blanks, since it travels in a header")
    return parse_key(text)


def parse_url(*schemes: str, example: str, needs_host: bool = True) -> Callable[[str], str]:
    """Return a parser of URLs of these schemes; `example` shows the form and stands in the error."""

    def parse(text: str) -> str:
        try:
            url = urlsplit(text)
            port_is_wrong = "," not in url.netloc and url.port == 0  # .port raises when it is no number
        except ValueError:
            raise ValueError(f"must look like {example}") from None
        is_bare = needs_host and not url.hostname
        if url.scheme not in schemes or is_bare or port_is_wrong or not text.isprintable() or " " in text:
            raise ValueError(f"must look like {example}")
        return text

    return parse


# A host may come as ?host=, for a socket's directory, and libpq allows several with commas between.
parse_database_url = parse_url(
    "postgresql", "postgres", example="postgresql://user:password@host:5432/database", needs_host=False
)
parse_redis_url = parse_url("redis", "rediss", example="rediss://user:password@host:6379/0")
parse_endpoint_url = parse_url("https", "http", example="https://host")
_parse_smarthost = parse_url("smtp", example="smtp://user:password@host:587?tls=required")


def parse_smtp_url(text: str) -> str:
    """Take the URL of a smarthost; `tls` is none, opportunistic or required."""
    url = urlsplit(_parse_smarthost(text))
    if not set(parse_qs(url.query).get("tls", [])) <= {"none", "opportunistic", "required"}:
        raise ValueError("must have tls=none, tls=opportunistic or tls=required")
    return text


def parse_transport(text: str) -> str:
    """Read the transport; those of a later release are refused by name."""
    if text.casefold() in LATER_TRANSPORTS:
        raise ValueError(f"cannot be {text.casefold()} yet: that transport comes in a later release; use smtp or inbox")
    return parse_choice("inbox", "smtp")(text)


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
    Setting("REDIS_URL", None, "Redis, for limits that several nodes share; the secret `redis-url` goes before it.",
            parse_redis_url),
    Setting("TRANSPORT", "inbox", "How mail leaves: `smtp` through a smarthost, or `inbox`, which keeps and shows it.",
            parse_transport),
    Setting("SMTP_URL", None, "The smarthost, smtp://user:password@host:port?tls=none|opportunistic|required;"
            " the secret `smtp-url` goes before it.", parse_smtp_url),
    Setting("API_HOST", "127.0.0.1", "The address that the API listens on.",
            parse_pattern(r"[A-Za-z0-9.:-]+", "an IP address or a host name")),
    Setting("API_PORT", "8025", "The port that the API listens on; 0 takes a free one.", parse_number(0, 65_535)),
    Setting("API_PROCESSES", "1", "How many processes serve the API on one port.", parse_number(1, 64)),
    Setting("TRUSTED_PROXIES", "", "Networks whose X-Forwarded-For counts, such as 10.0.0.0/8, separated by commas.",
            parse_networks),
    Setting("WORKER_CONCURRENCY", "100", "How many deliveries one worker attempts at a time.",
            parse_number(1, 10_000)),
    Setting("FIELD_KEY_DAYS", "365", "After how many days a tenant's values are sealed under a new key; 0 is never.",
            parse_days(0, 36_500)),
    Setting("LOG_FORMAT", None, "How log lines look: json, or console for people.",
            parse_choice("json", "console"), shown="json in production and staging, else console"),
    Setting("LOG_LEVEL", "INFO", "What is logged: DEBUG, INFO, WARNING or ERROR.",
            parse_choice("DEBUG", "INFO", "WARNING", "ERROR")),
)
# fmt: on
FIELDS = {
    "SECRETS_CACHE_SECONDS": "secrets_cache",
    "FIELD_KEY_DAYS": "field_key_age",
}  # the others are their names in lower case
KEYS = ("encryption_key", "encryption_salt", "admin_api_key")


def describe_settings() -> list[tuple[str, str, str]]:
    """Return name, default and sentence of every setting, in the order of the documentation."""
    return [(setting.name, setting.shown or setting.default or "", setting.sentence) for setting in SETTINGS]


def load_settings(
    environ: Mapping[str, str] | None = None,
    handed: Mapping[str, str] | None = None,
    *,
    generated: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Settings:
    """Read the settings: `handed`, then the environment, then `.env`, then `generated`.

    `handed` came from the parent process through a pipe; `generated` are development credentials
    that count only where nothing else is set. `.env` is read in development only, by default the
    one in the working directory and only beside the real environment; it is never exported. An
    empty value counts as unset. Raises ConfigurationError with every problem and no value.
    """
    if environ is None:
        environ, dotenv = os.environ, dotenv or Path(".env")
    problems: dict[str, str] = {}  # by setting: one mistake is reported once
    outside = {**_set_values(environ), **_set_values(handed or {})}
    from_file = _read_dotenv(dotenv, problems) if dotenv and _is_development(outside) else {}
    read = _parse({**_set_values(generated or {}), **from_file, **outside}, problems)
    _apply_rules(read, problems)
    if problems:
        lines = (f"  - {name} {problem}" for name, problem in problems.items())
        raise ConfigurationError("The settings cannot work:\n" + "\n".join(lines))
    return Settings(**read)


def environ_without(names: Iterable[str]) -> dict[str, str]:
    """Return the environment for a child process, without these variables."""
    left_out = set(names)
    return {name: value for name, value in os.environ.items() if name not in left_out}


def _set_values(values: Mapping[str, str]) -> dict[str, str]:
    stripped = ((name, value.strip(ASCII_WHITE_SPACE)) for name, value in values.items())
    return {name: value for name, value in stripped if value}


def _is_development(values: Mapping[str, str]) -> bool:
    return values.get("APP_ENV", values.get("NODE_ENV", "development")).casefold() == "development"


def _read_dotenv(path: Path, problems: dict[str, str]) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        # No interpolation: a password may hold "${".
        values = _set_values({name: value or "" for name, value in dotenv_values(path, interpolate=False).items()})
    except (OSError, UnicodeDecodeError):
        problems[".env"] = "cannot be read as UTF-8 text"
        return {}
    if not _is_development(values):
        problems["APP_ENV"] = "in .env can only be development, where .env is read; set it in the environment"
    return values


def _parse(values: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for setting in SETTINGS:
        name, used = FIELDS.get(setting.name, setting.name.lower()), setting.name_in(values)
        text = values.get(used, setting.default)
        try:
            read[name] = None if text is None else setting.parse(text)
        except ValueError as wrong:
            problems.setdefault(used, str(wrong))
            read[name] = None
    return read


def _apply_rules(read: dict[str, Any], problems: dict[str, str]) -> None:
    """Fill in what depends on other settings, and add what does not fit together."""
    if read["app_env"] is None:
        return  # nothing below can be judged
    is_deployed = read["app_env"] in DEPLOYED
    read["log_format"] = read["log_format"] or ("json" if is_deployed else "console")
    if read["use_secrets_manager"] is False and read["app_env"] == "production":
        problems["USE_SECRETS_MANAGER"] = "cannot be false in production: unset it, and keep secrets in Secrets Manager"
    elif read["use_secrets_manager"] is None:
        read["use_secrets_manager"] = is_deployed
    read["warnings"] = _find_warnings(read) if is_deployed else ()
    if read["use_secrets_manager"] or read["app_env"] == "production":
        for name in KEYS:
            read[name] = None
            problems.pop(name.upper(), None)  # what is ignored need not be right
        if not read["aws_region"]:
            problems.setdefault("AWS_REGION", "must be set to the region of the secrets")
    else:
        _check_local_keys(read, problems)


def _check_local_keys(read: Mapping[str, Any], problems: dict[str, str]) -> None:
    for name in KEYS:
        if read[name] is None:
            required = f"must be set to {MIN_KEY_CHARACTERS} characters or more while Secrets Manager is off"
            problems.setdefault(name.upper(), required)
    if read["encryption_key"] is not None and read["encryption_key"] == read["encryption_salt"]:
        problems["ENCRYPTION_SALT"] = "must differ from ENCRYPTION_KEY"
    if read["transport"] == "smtp" and read["smtp_url"] is None:
        problems.setdefault("SMTP_URL", "must be set for TRANSPORT=smtp")


def _find_warnings(read: Mapping[str, Any]) -> tuple[str, ...]:
    found = [advise_tls("DATABASE_URL", read["database_url"])]
    if read["transport"] == "inbox":
        found.append("TRANSPORT is inbox: mail is kept and shown, not sent.")
    if read["use_secrets_manager"] and any(read[name] for name in KEYS):
        found.append("ENCRYPTION_KEY, ENCRYPTION_SALT and ADMIN_API_KEY are ignored: remove them from the environment.")
    endpoint = urlsplit(read["aws_endpoint_url"] or "https://")
    if endpoint.scheme == "http" and not _is_loopback(endpoint.hostname):
        found.append("AWS_ENDPOINT_URL is plain http: secrets cross the network in clear.")
    return tuple(warning for warning in found if warning)


def advise_tls(name: str, database_url: str | None) -> str | None:
    """Return a sentence for the log when this database would be reached without verified TLS."""
    url = urlsplit(database_url or "")
    query = parse_qs(url.query)
    if not database_url or query.get("sslmode", [""])[-1] in ("verify-full", "verify-ca"):
        return None
    if _is_loopback(_database_host(url, query)):
        return None
    return f"{name} has no sslmode=verify-full: the connection to PostgreSQL may be read or redirected."


def _database_host(url: SplitResult, query: Mapping[str, list[str]]) -> str | None:
    return url.hostname or query.get("host", [None])[-1]


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
