"""Whether a stored text is the secret it should be; the forms that settings share are checked there.

Besides its own form a text is asked for two kinds of mistake that look like keys: a *wrapping* of the
value, and what *cannot be a key*. Errors name the kind and never quote the text.
"""

import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import quote, urlencode

from email_gateway.settings import ASCII_WHITE_SPACE, parse_database_url

# What AWS's rotation templates call PostgreSQL, on RDS and on Aurora.
ENGINES = ("postgres", "postgresql", "aurora-postgresql")
DEFAULT_PORT = 5432
RDS_KEYS = ("engine", "host", "port", "username", "password", "dbname")
MALFORMED_JSON = "must be a URL, or the JSON that RDS keeps: engine, host, port, username, password, dbname"

PEM = "-----BEGIN "
# All that follows is as narrow as it can be: a value made at random must not look like it, whatever alphabet it has.
ASSIGNMENT = re.compile(
    r"(export\s+)?([A-Z][A-Z0-9]{2,}(_[A-Z0-9]{3,})+|(?i:key|secret|salt|value|password|token))\s*[=:]\s*[^\s=]"
)
LIKE_JSON = re.compile(r"\{\s*['\"]?[\w./-]+['\"]?\s*[:=]|\[\s*['\"{\[]")
QUOTES = ("'", '"', "`")
TEMPLATE = re.compile(r"\$\{[^}]*\}|\$\([^)]*\)|\{\{.*\}\}|<[A-Za-z][\w .,'-]*>|%[A-Za-z0-9_]+%", re.DOTALL)
ARN = re.compile(r"arn:aws[a-z-]*:", re.IGNORECASE)
# In lower case, with one blank for all that is neither letter nor digit; only whole beginnings of words count.
PLACEHOLDERS = re.compile(
    r"\b(change ?(me|this|it)|replace ?(me|this|with)|placeholder|not a secret|super ?secret"
    r"|(insert|put|enter) ?(your|key|secret|value)"
    r"|your ?((own|local|very|super|random|secure|new) ?)*(secret|key|encryption|salt|admin|api|password|dev))"
    r"|^(my ?)?(example|dummy|sample|default|test) ?((encryption|admin|api|secret) ?)*(key|salt|secret|password|value)"
    r"|\b(key|secret|value) goes here"
)
FEWEST_CHARACTERS = 5  # 32 random hexadecimal digits have fourteen different ones


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


def refuse_disguise(name: str, text: str) -> None:
    """Raise ValueError when a stored text is a wrapping of the value of secret `name`, or cannot be a key at all."""
    wrapping = _name_wrapping(name, text) or _name_encoded_wrapping(name, text)
    if wrapping is not None:
        raise ValueError(f"must be the value alone, and it is {wrapping}")
    if not name.endswith("-url") and (instead := _name_no_key(name, text)) is not None:
        raise ValueError(f"must be a value made at random, and it is {instead}")


def _name_wrapping(name: str, text: str) -> str | None:
    if PEM in text:
        return "a PEM block (-----BEGIN ...): leave the armour away, or make a key that has none"
    if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES:
        return "in quotes: leave them away, since nothing takes them off"
    if ASSIGNMENT.match(text) or _assigns(name, text):
        return "a line such as KEY=value: store what follows the sign"
    if (text[:1], text[-1:]) in (("{", "}"), ("[", "]")):
        return _name_json(name, text)
    return None


def _name_json(name: str, text: str) -> str | None:
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return "something like JSON, in brackets" if LIKE_JSON.match(text) else None
    if isinstance(stored, list):
        return "a JSON list"
    if name == "database-url" and any(key in stored for key in RDS_KEYS):
        return None  # that form has a reader, which says what is missing
    return 'a JSON object, such as the console\'s "Key/value" makes: choose "Plaintext" there'


def _assigns(name: str, text: str) -> bool:
    """Tell whether the text begins with this secret's own name and an equals sign or a colon."""
    own = re.escape(name).replace("\\-", "[-_]")
    return re.match(rf"(export\s+)?['\"]?{own}['\"]?\s*[=:]\s*[^\s=]", text, re.IGNORECASE) is not None


def _name_encoded_wrapping(name: str, text: str) -> str | None:
    """Look into base64, also of base64; a random value hardly ever decodes into text, and then not into one of these."""
    joined = "".join(text.split())
    try:
        decoded = base64.b64decode(joined.replace("-", "+").replace("_", "/") + "=" * (-len(joined) % 4), validate=True)
        inner = decoded.decode("utf-8").strip()
    except (binascii.Error, UnicodeDecodeError):
        return None
    wrapping = _name_wrapping(name, inner) or _name_encoded_wrapping(name, inner)
    return f"base64 of a wrapping; inside it is {wrapping}" if wrapping is not None else None


def _name_no_key(name: str, text: str) -> str | None:
    if ARN.match(text):
        return "an ARN: that names something, perhaps this secret"
    if re.fullmatch(rf"([\w+=.@-]+/)*{re.escape(name)}(-\w{{6}})?", text.replace("_", "-"), re.IGNORECASE):
        return "the secret's own name"
    if TEMPLATE.fullmatch(text):
        return "a template that was not filled in"
    if PLACEHOLDERS.search(re.sub(r"[^a-z0-9]+", " ", text.casefold())):
        return "a placeholder, which everybody knows"
    if len(set(text)) < FEWEST_CHARACTERS:
        return "one character or a few of them, repeated"
    return None


def read_database_url(text: str) -> str:
    """Return the PostgreSQL URL from a URL, or from the JSON that AWS's own RDS rotation keeps up to date.

    `sslmode` and `sslrootcert` may stand in the JSON too; the rotation leaves keys alone that it does not know.
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
    options = {name: stored[name] for name in ("sslmode", "sslrootcert") if isinstance(stored.get(name), str)}
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{username}:{password}@{host}:{port}/{dbname}{query}"
