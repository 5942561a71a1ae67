"""The door: every page but the login is reached through a session, every POST with its CSRF token."""

import functools
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from email_gateway.dashboard.context import ADMIN_KEY, DashboardContext
from email_gateway.dashboard.forms import read_form
from email_gateway.dashboard.rendering import BASE, page
from email_gateway.errors import Forbidden
from email_gateway.store.audit import add_audit
from email_gateway.store.sessions import Session, find_session

COOKIE = "email_gateway_session"
MAX_TOKEN_LENGTH = 100  # a token has 43 characters; anything longer is not hashed


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of an operator who is logged in."""

    request: Request
    context: DashboardContext
    session: Session
    form: Mapping[str, str]

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Answer with a page that carries the navigation, the operator and the CSRF token."""
        return page(template, status=status, **self.frame(), **values)

    def frame(self) -> dict[str, Any]:
        return {
            "operator": self.session.operator,
            "csrf": self.session.csrf,
            "has_inbox": self.context.has_inbox,
            "keeps_mail": self.context.keeps_mail,
            "path": self.request.url.path,
        }

    async def record(self, action: str, **facts: Any) -> None:
        """Write to the audit what this operator did; before the answer, so that nothing is seen unrecorded."""
        await add_audit(self.context.db, actor=self.session.operator, action=action, **facts)


Endpoint = Callable[[Request], Awaitable[Response]]
VisitEndpoint = Callable[[Visit], Awaitable[Response]]


def guarded(endpoint: VisitEndpoint) -> Endpoint:
    """Let only an operator with a live session in; others are sent to the login."""

    @functools.wraps(endpoint)
    async def enter(request: Request) -> Response:
        context: DashboardContext = request.app.state.context
        session = await current_session(request)
        if session is None:
            return RedirectResponse(f"{BASE}/login", status_code=303)
        form: Mapping[str, str] = {}
        if request.method == "POST":
            refuse_other_sites(request)
            form = await read_form(request)
            if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
                raise Forbidden("this form was not made by this session: load the page again")
        return await endpoint(Visit(request, context, session, form))

    return enter


async def current_session(request: Request) -> Session | None:
    """Return the session of the request's cookie, if it is alive under the admin key in force."""
    context: DashboardContext = request.app.state.context
    token = request.cookies.get(COOKIE, "")
    if not token or len(token) > MAX_TOKEN_LENGTH:
        return None
    return await find_session(context.db, token, context.secrets.get(ADMIN_KEY).value)


def refuse_other_sites(request: Request) -> None:
    """Refuse a POST that a browser says comes from elsewhere: it guards the login, which has no session yet.

    Browsers send `Origin: null` here, because our pages send no referrer; then Sec-Fetch-Site tells
    (Fetch standard, "append a request Origin header").
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("this form was sent by another site")
    origin = request.headers.get("origin", "null")
    if origin != "null" and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("this form was sent by another site")
