"""Where mail is handed over and how long each step may take: the smarthost's URL and the timeouts, as data."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

EXAMPLE = "smtp://user:password@host:587?tls=required"
RELAY_PORT = 25  # RFC 5321 section 4.5.4.2
SUBMISSION_PORT = 587  # RFC 6409 section 3.1
IMPLICIT_TLS_PORT = 465  # RFC 8314 section 3.3
MAX_CREDENTIAL_OCTETS = 255  # RFC 4616 section 2 for each of the two

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
    """A user and a password of the smarthost; neither is ever printed."""

    user: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmtpTarget:
    """The server that mail is handed to."""

    host: str
    port: int
    tls: Tls
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take: what RFC 5321 section 4.5.3.2 asks for, and Postfix's where it is silent.

    A timeout ends the wait for a whole reply, however slowly it drips. `attempt` bounds everything
    before the final dot; after the dot only `dot` counts, since giving up early makes duplicates.
    """

    connect: timedelta = timedelta(seconds=30)
    tls: timedelta = timedelta(seconds=60)
    greeting: timedelta = timedelta(minutes=5)  # 4.5.3.2.1
    ehlo: timedelta = timedelta(minutes=5)
    auth: timedelta = timedelta(minutes=3)  # RFC 4954 section 4
    mail: timedelta = timedelta(minutes=5)  # 4.5.3.2.2
    rcpt: timedelta = timedelta(minutes=5)  # 4.5.3.2.3
    data: timedelta = timedelta(minutes=2)  # 4.5.3.2.4
    block: timedelta = timedelta(minutes=3)  # 4.5.3.2.5
    dot: timedelta = timedelta(minutes=10)  # 4.5.3.2.6
    reset: timedelta = timedelta(seconds=20)
    quit: timedelta = timedelta(seconds=5)
    attempt: timedelta = timedelta(minutes=15)


def parse_smtp_url(url: str) -> SmtpTarget:
    """Read `smtp://user:password@host:port?tls=none|opportunistic|required`, or `smtps://`.

    Without a port: 587 with a user, 25 without, 465 for `smtps`. Without `tls`: required with a
    user, else opportunistic. User and password are percent-decoded. Raises ValueError, which says
    what to change and repeats nothing of the URL.
    """
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise ValueError(f"the SMTP URL must look like {EXAMPLE}") from None
    if split.scheme not in ("smtp", "smtps") or split.path not in ("", "/") or split.fragment or port == 0:
        raise ValueError(
            f"the SMTP URL must look like {EXAMPLE}; percent-encode special characters in user and password"
        )
    credentials = _parse_credentials(split)
    tls = _parse_tls(split, credentials)
    return SmtpTarget(_parse_host(split), port or _default_port(tls, credentials), tls, credentials)


def _parse_host(split: SplitResult) -> str:
    host = (split.hostname or "").lower()
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise ValueError("the SMTP URL must name a host or an IP address")
    return host.removesuffix(".")


def _parse_credentials(split: SplitResult) -> Credentials | None:
    if not split.username and not split.password:
        return None
    user, password = unquote(split.username or ""), unquote(split.password or "")
    if not user or not password:
        raise ValueError("the SMTP URL must have both a user and a password, or neither")
    for value in (user, password):
        if _CONTROL.search(value) or "\ufffd" in value or len(value.encode()) > MAX_CREDENTIAL_OCTETS:
            raise ValueError("user and password of the SMTP URL must be at most 255 octets without control characters")
    return Credentials(user, password)


def _parse_tls(split: SplitResult, credentials: Credentials | None) -> Tls:
    query = parse_qsl(split.query, keep_blank_values=True)
    if any(name != "tls" for name, _ in query) or len(query) > 1:
        raise ValueError("the SMTP URL takes one option: tls")
    wanted = query[0][1] if query else None
    if wanted not in (None, "none", "opportunistic", "required"):
        raise ValueError("the SMTP URL must have tls=none, tls=opportunistic or tls=required")
    if split.scheme == "smtps":
        if wanted not in (None, "required"):
            raise ValueError("smtps:// encrypts from the start: leave tls out, or write tls=required")
        return Tls.IMPLICIT
    if wanted is None:
        return Tls.REQUIRED if credentials else Tls.OPPORTUNISTIC
    return Tls(wanted)


def _default_port(tls: Tls, credentials: Credentials | None) -> int:
    if tls is Tls.IMPLICIT:
        return IMPLICIT_TLS_PORT
    return SUBMISSION_PORT if credentials else RELAY_PORT
