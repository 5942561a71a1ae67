"""The gateway as the rotation function sees it: a few calls under /admin, each safe to repeat."""

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request

from email_gateway.aws.failures import RotationFailed

ENCRYPTION_KEY = "encryption-key"
ADMIN_API_KEY = "admin-api-key"
STAGE_PATHS = {ENCRYPTION_KEY: "/admin/keys/rotation/stage", ADMIN_API_KEY: "/admin/secrets/stage"}
ROOT_STATES = ("pending", "active")

OK = 200
PASSING = (502, 503, 504)  # a gateway that starts, or a load balancer that has none for the moment
REFUSED = (401, 403)
MOST_BYTES = 65_536
MOST_CHARACTERS = 300
CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VISIBLE_ASCII = re.compile(r"[!-~]+")  # anything else would break out of a header, or be refused with its value
ASCII_WHITE_SPACE = " \t\r\n\v\f"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, and the body up to 64 KiB."""

    status: int
    body: bytes


class Unreachable(Exception):
    """No answer came; `why` is the name of the error, since its text may quote a header."""

    def __init__(self, why: str, *, is_passing: bool) -> None:
        super().__init__(why)
        self.why = why
        self.is_passing = is_passing


Send = Callable[[Request, float], Answer]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call and all its repeats may take, and the pauses between them, in seconds."""

    call: float = 10.0
    total: float = 20.0
    pauses: tuple[float, ...] = (0.5, 1.5, 3.0, 5.0)


DEFAULT_PATIENCE = Patience()


def send_once(request: Request, timeout: float) -> Answer:
    """Send a request straight to its host and return whatever is answered, errors and redirects too.

    No proxy, since plain http on loopback must not leave the machine. A redirect is not followed, since
    the key would travel. Certificates are verified; SSL_CERT_FILE names those of a private authority.
    Raises Unreachable. `timeout` is for each read: Lambda's own timeout ends an answer that drips.
    """
    opener = OpenerDirector()
    is_https = request.type == "https"
    opener.add_handler(HTTPSHandler(context=ssl.create_default_context()) if is_https else HTTPHandler())
    try:
        with opener.open(request, timeout=timeout) as response:
            body = response.read(MOST_BYTES)
            if response.length and len(body) < MOST_BYTES:
                # Given a size, read() takes a connection that broke for the end.
                raise http.client.IncompleteRead(body, response.length)
            return Answer(response.status, body)
    except URLError as error:
        cause = error.reason if isinstance(error.reason, Exception) else error
    except (OSError, http.client.HTTPException) as error:
        cause = error
    # A certificate that is wrong now is wrong in ten seconds as well.
    raise Unreachable(type(cause).__name__, is_passing=not isinstance(cause, ssl.SSLCertVerificationError))


class Gateway:
    """Calls of one invocation; `key` opens nothing but the endpoints for rotation.

    Each raises RotationFailed with HTTP status, code and detail when the gateway cannot be reached, or
    does not answer 200 with JSON. Passing trouble is waited for.
    """

    def __init__(self, url: str, key: str, *, send: Send = send_once, patience: Patience = DEFAULT_PATIENCE) -> None:
        self._url = parse_gateway_url(url)
        self._key = as_header("the rotation key", key)
        self._send = send
        self._patience = patience

    def stage(self, secret: str, version_id: str) -> None:
        """Let the gateway fetch this version and prepare for it."""
        answer = self._post(STAGE_PATHS[secret], secret, version_id)
        if secret == ENCRYPTION_KEY:
            _check_root(answer, STAGE_PATHS[secret])

    def verify(self, version_id: str | None) -> None:
        """Let the gateway open every data key under this encryption key; with None it checks the way alone."""
        path = "/admin/keys/rotation/verify"
        answer = self._post(path, ENCRYPTION_KEY, version_id)
        if version_id is not None:
            _check_root(answer, path)

    def complete(self, secret: str, version_id: str) -> None:
        """Tell the gateway that this version is current now."""
        self._post("/admin/keys/rotation/complete", secret, version_id)

    def check_admin_key(self, admin_key: str) -> None:
        """See that the gateway lets this admin key in; a node that has not heard of it yet is waited for."""
        value = as_header("the admin key", admin_key)
        path = "/admin/health"
        request = Request(self._url + path, headers={"x-admin-key": value, "accept": "application/json"})  # noqa: S310
        self._exchange(f"GET {path}", request, (self._key, value), (*PASSING, *REFUSED))

    def _post(self, path: str, secret: str, version_id: str | None) -> Mapping[str, Any]:
        request = Request(  # noqa: S310  (the scheme is checked where the URL is parsed)
            self._url + path,
            data=json.dumps({"secret": secret, "version_id": version_id}).encode(),
            headers={"x-rotation-key": self._key, "content-type": "application/json", "accept": "application/json"},
            method="POST",
        )
        return self._exchange(f"POST {path}", request, (self._key,), PASSING)

    def _exchange(
        self, what: str, request: Request, hidden: tuple[str, ...], passing: Collection[int]
    ) -> Mapping[str, Any]:
        ends_at = time.monotonic() + self._patience.total
        for pause in (*self._patience.pauses, None):
            remaining = ends_at - time.monotonic()
            try:
                answer = self._send(request, max(min(self._patience.call, remaining), 0.1))
            except Unreachable as unreachable:
                failed = RotationFailed(f"{what}: the gateway cannot be reached ({unreachable.why}): check GATEWAY_URL")
                is_passing = unreachable.is_passing
            else:
                read = _read_json(answer.body)
                if answer.status == OK and read is not None:
                    return read
                failed = _explain(what, answer.status, read, hidden)
                is_passing = answer.status in passing
            if pause is None or not is_passing or time.monotonic() + pause > ends_at:
                break
            time.sleep(pause)
        raise failed


def parse_gateway_url(text: str) -> str:
    """Return the gateway's base URL without a trailing slash or /v1.

    Raises RotationFailed for anything but https, or http to this machine; the message does not quote it.
    """
    try:
        url = urlsplit(text.strip())
        host, _port = url.hostname, url.port
    except ValueError:
        raise RotationFailed("GATEWAY_URL is not a URL") from None
    if not text.strip():
        raise RotationFailed("GATEWAY_URL is not set: give it to the function's environment, as https://host")
    if url.scheme not in ("https", "http") or not host:
        raise RotationFailed("GATEWAY_URL must be a URL such as https://mail.example.com")
    if url.scheme == "http" and not _is_loopback(host):
        raise RotationFailed("GATEWAY_URL must be https: the rotation key would cross the network in clear")
    if "@" in url.netloc or url.query or url.fragment:
        raise RotationFailed("GATEWAY_URL must hold no user, query or fragment")
    path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{url.scheme}://{url.netloc}{path}"


def as_header(name: str, value: str) -> str:
    """Return a key as it goes into a header, without the line end that an editor left; raises RotationFailed."""
    stripped = value.strip(ASCII_WHITE_SPACE)
    if not VISIBLE_ASCII.fullmatch(stripped):
        raise RotationFailed(f"{name} must be visible ASCII characters on one line")
    return stripped


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_root(answer: Mapping[str, Any], path: str) -> None:
    if answer.get("state") not in ROOT_STATES:
        raise RotationFailed(f"POST {path}: the answer names no pending or active root key", status=OK)


def _explain(what: str, status: int, read: Mapping[str, Any] | None, hidden: tuple[str, ...]) -> RotationFailed:
    """Return the failure that an answer means, with nothing of it but `code` and `detail` (RFC 9457)."""
    if 300 <= status < 400:
        told = "a redirect, not followed since the key would travel with it: set GATEWAY_URL to where it leads"
        return RotationFailed(f"{what}: HTTP {status}, {told}", status=status)
    if read is None or status == OK:
        told = "not the gateway's JSON: check GATEWAY_URL, and what stands before the gateway"
        return RotationFailed(f"{what}: HTTP {status}, {told}", status=status)
    given, detail = read.get("code"), read.get("detail")
    code = given if isinstance(given, str) and CODE.fullmatch(given) else None
    words = _clean(detail, hidden) if isinstance(detail, str) else "no detail"
    return RotationFailed(f"{what}: HTTP {status} ({code or 'no code'}): {words}", status=status, code=code)


def _clean(text: str, hidden: tuple[str, ...]) -> str:
    # The gateway never repeats a key, but what stands before it might.
    for value in hidden:
        text = text.replace(value, "***")
    return "".join(character if character.isprintable() else " " for character in text)[:MOST_CHARACTERS]


def _read_json(body: bytes) -> Mapping[str, Any] | None:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
