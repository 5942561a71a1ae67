"""What settings mean together: defaults that depend on others, what cannot go together, and what is warned of."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from email_gateway.settings.parsing import MIN_KEY_CHARACTERS
from email_gateway.settings.table import DEPLOYED

# libpq's words for a server whose certificate is verified.
VERIFIED_MODES = ("verify-full", "verify-ca")
KEYS = ("encryption_key", "encryption_salt", "admin_api_key")


def apply_rules(read: dict[str, Any], problems: dict[str, str]) -> None:
    """Fill in what depends on other settings, and add what does not fit together."""
    if read["app_env"] is None:
        return  # nothing below can be judged
    is_deployed = read["app_env"] in DEPLOYED
    read["log_format"] = read["log_format"] or ("json" if is_deployed else "console")
    _settle_transport(read, problems)
    if read["require_verified_domains"] is None:
        read["require_verified_domains"] = read["app_env"] == "production"
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
    _check_certificate(read, problems)
    if read["database_iam_auth"] and not read["aws_region"]:
        problems.setdefault("AWS_REGION", "must be set to the region of the database for DATABASE_IAM_AUTH")


def _check_certificate(read: Mapping[str, Any], problems: dict[str, str]) -> None:
    for name, other in (("TLS_CERT_FILE", "TLS_KEY_FILE"), ("TLS_KEY_FILE", "TLS_CERT_FILE")):
        if read[name.lower()] is None and read[other.lower()] is not None:
            problems.setdefault(name, f"must be set where {other} is")


def _settle_transport(read: dict[str, Any], problems: dict[str, str]) -> None:
    """Let development keep its mail; where people expect theirs, somebody must have said how it leaves."""
    if read["transport"] is None and read["app_env"] in DEPLOYED:
        problems.setdefault(
            "TRANSPORT",
            f"must be set in {read['app_env']}: to smtp, with SMTP_URL or the secret smtp-url; or to inbox, which sends"
            " nothing and keeps the mail",
        )
    read["transport"] = read["transport"] or "inbox"


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
        found.append("TRANSPORT is inbox: mail is kept here and not sent to anyone.")
    if read["use_secrets_manager"] and any(read[name] for name in KEYS):
        found.append("ENCRYPTION_KEY, ENCRYPTION_SALT and ADMIN_API_KEY are ignored: remove them from the environment.")
    endpoint = urlsplit(read["aws_endpoint_url"] or "https://")
    if endpoint.scheme == "http" and not _is_loopback(endpoint.hostname):
        found.append("AWS_ENDPOINT_URL is plain http: secrets cross the network in clear.")
    return tuple(warning for warning in found if warning)


def is_verified(database_url: str) -> bool:
    """Tell whether a database's URL asks for TLS with a server that proves who it is."""
    return parse_qs(urlsplit(database_url).query).get("sslmode", [""])[-1] in VERIFIED_MODES


def advise_tls(name: str, database_url: str | None) -> str | None:
    """Return a sentence for the log when this database would be reached without verified TLS."""
    if not database_url or is_verified(database_url):
        return None
    url = urlsplit(database_url)
    if _is_loopback(_database_host(url, parse_qs(url.query))):
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
