"""The few HTTP requests that commands make of a gateway."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from email_gateway.cli.exits import CommandFailed
from email_gateway.errors import DomainNotVerified, Forbidden, Unauthorized

TIMEOUT_SECONDS = 15.0
LOCAL = ("127.0.0.1", "localhost", "::1")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the API key would be sent along."""

    def redirect_request(self, *args: object, **named: object) -> None:
        return None


class Gateway:
    """A gateway at `url`, which ends in /v1, as the holder of an API key or of an admin key sees it."""

    def __init__(self, url: str, api_key: str | None = None, *, admin_key: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailed("the gateway's URL must look like http://127.0.0.1:8025/v1")
        self.url = url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"
        self._keys = {}
        if api_key:
            self._keys["Authorization"] = f"Bearer {api_key}"
        if admin_key:
            self._keys["x-admin-key"] = admin_key
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if parts.hostname in LOCAL:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Any:
        """Return the JSON at a path below /v1, or of one that begins with /admin."""
        return self._ask(path, None)

    def post(self, path: str, body: object) -> Any:
        """Send JSON to a path below /v1, or to one that begins with /admin, and return the answer's."""
        return self._ask(path, json.dumps(body).encode())

    def health(self) -> dict[str, Any]:
        """Return what readiness says, or the status `unreachable`."""
        try:
            answer: dict[str, Any] = self._ask("/health/readyz", None)
        except CommandFailed:
            return {"status": "unreachable"}
        return answer

    def _ask(self, path: str, body: bytes | None) -> Any:
        headers = {"Accept": "application/json", **self._keys}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            base = self.url.removesuffix("/v1") if path.startswith("/admin/") else self.url
            request = urllib.request.Request(f"{base}{path}", body, headers)  # noqa: S310  # checked above
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, path)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CommandFailed(
                f"the gateway at {self.url} does not answer ({_why(error)})",
                "start it with `email-gateway up` or `email-gateway api`, or name another with --url",
            ) from None

    def _refused(self, error: urllib.error.HTTPError, path: str) -> Any:
        try:
            problem = json.load(error)
            detail = str(problem.get("detail") or problem.get("status") or error.reason)
        except (OSError, ValueError, AttributeError):
            raise CommandFailed(f"{self.url} answered {error.code}: is it an email gateway?") from None
        if path == "/health/readyz":
            return problem
        faults = "".join(f"\n  - {fault['pointer']}: {fault['detail']}" for fault in problem.get("errors", ()))
        match error.code:
            case 401:
                raise Unauthorized(detail)
            case 403 if problem.get("code") == DomainNotVerified.code:
                raise CommandFailed(detail, "`email-gateway domains add DOMAIN --tenant NAME` prints what to publish")
            case 403:
                raise Forbidden(detail)
        raise CommandFailed(f"the gateway refused ({error.code}): {detail}{faults}")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or type(reason).__name__
