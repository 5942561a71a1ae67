"""The server that mail is handed to, as a URL names it: host, port, how it is protected, credentials."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

EXAMPLE = "smtp://user:password@host:587?tls=required"
RELAY_PORT = 25  # RFC 5321 section 4.5.4.2
SUBMISSION_PORT = 587  # RFC 6409 section 3.1
IMPLICIT_TLS_PORT = 465  # RFC 8314 section 3.3
MAX_CREDENTIAL_OCTETS = 255  # RFC 4616 section 2 for each of the two
MAX_TOKEN_OCTETS = 8192  # with the user it fits the 12,288 octets of RFC 4954 section 4 in base64
OPTIONS = ("tls", "auth", "cert", "key")

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Tls(StrEnum):
    """How a connection is protected.

    `required` verifies the certificate and its name, and nothing is sent in clear. `opportunistic`
    encrypts where the server offers it and can, whoever it is, and goes on in clear where not; it
    protects from readers, not from attackers, so credentials belong with `required`. `implicit`
    (`smtps://`) is `required` from the first octet (RFC 8314).
    """

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    IMPLICIT = "implicit"

    @property
    def is_verified(self) -> bool:
        return self in (Tls.REQUIRED, Tls.IMPLICIT)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password of the smarthost, or an OAuth access token in its place; neither is ever printed."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    is_token: bool = False


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Files in PEM with which we prove who we are: a certificate with its chain, and its key unless that is in it too."""

    certificate: Path
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class SmtpTarget:
    """The server that mail is handed to."""

    host: str
    port: int
    tls: Tls
    credentials: Credentials | None = None
    certificate: ClientCertificate | None = None


def parse_smtp_url(url: str) -> SmtpTarget:
    """Read `smtp://user:password@host:port?tls=none|opportunistic|required`, or `smtps://`.

    Without a port: 587 with a user, 25 without, 465 for `smtps`. Without `tls`: required with a
    user or a certificate, else opportunistic. The last `@` ends the credentials and their first `:` the
    user, so a password may hold `/ + # ? @ :` as they are; what follows a `%` is decoded where it is two
    hexadecimal digits. With `auth=xoauth2` the password is an access token; `cert` and `key` are files
    of a client certificate. Raises ValueError, which starts with "must" and repeats nothing of the URL.
    """
    if not url.isprintable():  # urlsplit would drop line ends and tabs in silence
        raise ValueError(f"must look like {EXAMPLE}, on one line, without control characters")
    scheme, slashes, rest = url.partition("://")
    login, _, server = rest.rpartition("@")
    try:
        split = urlsplit(f"{scheme}{slashes}{server}")
        port = split.port
    except ValueError:
        raise ValueError(f"must look like {EXAMPLE}") from None
    if split.scheme not in ("smtp", "smtps") or split.path not in ("", "/") or split.fragment or port == 0:
        raise ValueError(f"must look like {EXAMPLE}")
    options = _parse_options(split)
    host, credentials = _parse_host(split), _parse_credentials(login, options)
    certificate = _parse_certificate(options)
    tls = _parse_tls(split, options, is_private=credentials is not None or certificate is not None)
    if certificate and not tls.is_verified:
        raise ValueError("must have tls=required, or smtps://, beside cert")
    return SmtpTarget(host, port or _default_port(tls, credentials), tls, credentials, certificate)


def _parse_options(split: SplitResult) -> dict[str, str]:
    query = parse_qsl(split.query, keep_blank_values=True)
    options = dict(query)
    if len(options) < len(query) or not options.keys() <= set(OPTIONS):
        raise ValueError("must have no options but tls, auth, cert and key, each once")
    return options


def _parse_host(split: SplitResult) -> str:
    host = (split.hostname or "").lower()
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise ValueError(f"must name a host or an IP address after the last @, as {EXAMPLE} does")
    return host.removesuffix(".")


def _parse_credentials(login: str, options: dict[str, str]) -> Credentials | None:
    is_token = options.get("auth") == "xoauth2"
    if "auth" in options and not is_token:
        raise ValueError("must have auth=xoauth2, or no auth: then PLAIN or LOGIN is used, as the server offers")
    if login in ("", ":"):
        if is_token:
            raise ValueError("must have a user and an access token before the last @ with auth=xoauth2")
        return None
    user, _, password = (unquote(part) for part in login.partition(":"))
    if not user or not password:
        raise ValueError("must have both a user and a password before the last @, with a : between them, or neither")
    for value, most in (
        (user, MAX_CREDENTIAL_OCTETS),
        (password, MAX_TOKEN_OCTETS if is_token else MAX_CREDENTIAL_OCTETS),
    ):
        if "\ufffd" in value:  # the octets of a %XX are no UTF-8: most likely it was never meant as one
            raise ValueError("must have a % in the user or the password written as %25")
        if _CONTROL.search(value) or len(value.encode()) > most:
            raise ValueError(
                "must have a user and a password of at most 255 octets (8192 for a token) without control characters"
            )
    return Credentials(user, password, is_token)


def _parse_certificate(options: dict[str, str]) -> ClientCertificate | None:
    named = {name: Path(options[name]) for name in ("cert", "key") if name in options}
    if not all(path.is_absolute() for path in named.values()):
        raise ValueError("must have the whole path of a file, from / on, in cert and in key")
    if not named:
        return None
    if "cert" not in named:
        raise ValueError("must have cert beside key")
    return ClientCertificate(named["cert"], named.get("key"))


def _parse_tls(split: SplitResult, options: dict[str, str], *, is_private: bool) -> Tls:
    wanted = options.get("tls")
    if wanted not in (None, "none", "opportunistic", "required"):
        raise ValueError("must have tls=none, tls=opportunistic or tls=required")
    if split.scheme == "smtps":
        if wanted not in (None, "required"):
            raise ValueError("must leave tls out, or have tls=required: smtps:// encrypts from the start")
        return Tls.IMPLICIT
    if wanted is None:
        return Tls.REQUIRED if is_private else Tls.OPPORTUNISTIC
    return Tls(wanted)


def _default_port(tls: Tls, credentials: Credentials | None) -> int:
    if tls is Tls.IMPLICIT:
        return IMPLICIT_TLS_PORT
    return SUBMISSION_PORT if credentials else RELAY_PORT
