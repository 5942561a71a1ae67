"""Logging in with the admin key or a one-time link, and out."""

import hmac

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from email_gateway.dashboard.context import ADMIN_KEY, DashboardContext
from email_gateway.dashboard.forms import clean_line, read_form
from email_gateway.dashboard.peers import client_address, is_https, is_loopback
from email_gateway.dashboard.rendering import BASE, page
from email_gateway.dashboard.visits import (
    COOKIE,
    MAX_TOKEN_LENGTH,
    Visit,
    current_session,
    guarded,
    refuse_other_sites,
)
from email_gateway.observe import get_logger
from email_gateway.store.audit import add_audit
from email_gateway.store.sessions import SESSION_LIFETIME, add_session, end_session, redeem_login_link

log = get_logger(__name__)

LONGEST_OPERATOR = 80

WRONG_KEY = "This admin key is not the one in force."
NO_NAME = "Give the name that the audit shall show."
WRONG_LINK = "This link has been used, has expired, or is not complete. Log in with the admin key, or make a new link."
NOT_HERE = "Login links work in a browser on the gateway's own machine only. Log in with the admin key."
NOT_SECURE = (
    "The admin key must not cross the network in clear: open this page over https. "
    "Behind a proxy that ends TLS, name the proxy in TRUSTED_PROXIES."
)


async def show(request: Request) -> Response:
    """Show the login; an operator who is logged in goes on."""
    if await current_session(request):
        return RedirectResponse(f"{BASE}/", status_code=303)
    return _login_page(request, problem=None)


async def with_key(request: Request) -> Response:
    """Open a session for whoever knows the admin key in force and gives a name."""
    context: DashboardContext = request.app.state.context
    refuse_other_sites(request)
    form = await read_form(request)
    operator = clean_line(form.get("operator", ""), LONGEST_OPERATOR)
    if context.requires_https and not is_https(request) and not is_loopback(request):
        return _login_page(request, status=403, problem=NOT_SECURE, operator=operator)
    if wait := await context.limits.admin_wait_seconds(client_address(request)):
        problem = f"Too many failed logins from here. Try again in {wait} seconds."
        response = _login_page(request, status=429, problem=problem, operator=operator)
        response.headers["retry-after"] = str(wait)
        return response
    if not operator:
        return _login_page(request, status=422, problem=NO_NAME)
    if not _is_key_in_force(context, form.get("key", "")):
        await context.limits.add_admin_failure(client_address(request))
        log.warning("dashboard_login_refused")
        return _login_page(request, status=401, problem=WRONG_KEY, operator=operator)
    return await _open_session(request, operator, "dashboard.logged_in")


async def with_link(request: Request) -> Response:
    """Open a session for a one-time link, which this uses up."""
    context: DashboardContext = request.app.state.context
    refuse_other_sites(request)
    token = (await read_form(request)).get("token", "")
    if not is_loopback(request):
        return _login_page(request, status=403, problem=NOT_HERE)
    operator = await redeem_login_link(context.db, token) if 0 < len(token) <= MAX_TOKEN_LENGTH else None
    if operator is None:
        return _login_page(request, status=403, problem=WRONG_LINK)
    return await _open_session(request, operator, "dashboard.logged_in_by_link")


@guarded
async def out(visit: Visit) -> Response:
    """End the session."""
    await end_session(visit.context.db, visit.session.token)
    await visit.record("dashboard.logged_out")
    response = RedirectResponse(f"{BASE}/login", status_code=303)
    response.delete_cookie(COOKIE, path=BASE, httponly=True, samesite="strict", secure=is_https(visit.request))
    return response


def _login_page(request: Request, *, status: int = 200, problem: str | None, operator: str = "") -> Response:
    context: DashboardContext = request.app.state.context
    return page("login.html", status=status, problem=problem, operator=operator, keeps_mail=context.keeps_mail)


async def _open_session(request: Request, operator: str, action: str) -> Response:
    context: DashboardContext = request.app.state.context
    await add_audit(context.db, actor=operator, action=action)
    session = await add_session(context.db, operator, context.secrets.get(ADMIN_KEY).value)
    response = RedirectResponse(f"{BASE}/", status_code=303)
    response.set_cookie(
        COOKIE,
        session.token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path=BASE,
        httponly=True,
        samesite="strict",
        secure=is_https(request),
    )
    return response


def _is_key_in_force(context: DashboardContext, candidate: str) -> bool:
    """Tell whether this is today's admin key: the previous one, still accepted by /admin, opens no session."""
    in_force = context.secrets.get(ADMIN_KEY).value
    return context.secrets.admin_key_matches(candidate) and hmac.compare_digest(candidate.encode(), in_force.encode())
