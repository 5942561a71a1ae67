"""Whether a fetched text is the secret it should be; the forms that settings share are checked there."""

import json
from typing import Any
from urllib.parse import quote, urlencode

from email_gateway.settings import ASCII_WHITE_SPACE, parse_database_url

# What AWS's rotation templates call PostgreSQL, on RDS and on Aurora.
ENGINES = ("postgres", "postgresql", "aurora-postgresql")
DEFAULT_PORT = 5432
MALFORMED_JSON = "must be a URL, or the JSON that RDS keeps: engine, host, port, username, password, dbname"


def strip_secret(text: object) -> str:
    """Return the stored text without ASCII white space at both ends, since editors and shells add line ends.

    Raises ValueError for what is no text, empty, or no valid Unicode.
    """
    if not isinstance(text, str):
        raise ValueError("must be text in SecretString, not binary and not another type")  # noqa: TRY004
    stripped = text.strip(ASCII_WHITE_SPACE)
    if not stripped:
        raise ValueError("must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise ValueError("must be valid Unicode text: it holds half of a surrogate pair")
    return stripped


def read_database_url(text: str) -> str:
    """Return the PostgreSQL URL from a URL, or from the JSON that AWS's own RDS rotation keeps up to date.

    `sslmode` may stand in the JSON too; the rotation leaves keys alone that it does not know.
    """
    if not text.startswith("{"):
        return parse_database_url(text)
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(MALFORMED_JSON) from None
    return parse_database_url(_join_url(stored))


def _join_url(stored: dict[str, Any]) -> str:
    parts = [stored.get(name) for name in ("username", "password", "host", "dbname")]
    port = stored.get("port", DEFAULT_PORT)  # a number from the template, text from the console
    is_right = all(isinstance(part, str) and part for part in parts) and str(port).isdecimal()
    if not is_right or stored.get("engine", "postgres") not in ENGINES:
        raise ValueError(MALFORMED_JSON)
    username, password, host, dbname = (quote(str(part), safe="") for part in parts)
    if ":" in str(parts[2]):
        host = f"[{parts[2]}]"  # an IPv6 address (RFC 3986 section 3.2.2)
    sslmode = stored.get("sslmode")
    query = f"?{urlencode({'sslmode': sslmode})}" if isinstance(sslmode, str) else ""
    return f"postgresql://{username}:{password}@{host}:{port}/{dbname}{query}"
