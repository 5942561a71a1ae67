"""The dashboard's routes and what an error looks like."""

from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from email_gateway.dashboard import inbox, keys, login, messages, overview
from email_gateway.dashboard.context import DashboardContext
from email_gateway.dashboard.headers import SECURITY_HEADERS, SecurityHeaders
from email_gateway.dashboard.rendering import page
from email_gateway.errors import CallerError, Forbidden, GatewayError, NotFound, TooLarge, TryLater
from email_gateway.observe import get_logger

log = get_logger(__name__)

STATIC_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
ONE_MESSAGE = "/messages/{tenant_id:uuid}/{message_id:uuid}"
ONE_MAIL = "/inbox/{tenant_id:uuid}/{inbox_id:uuid}"


def build_dashboard(context: DashboardContext) -> Starlette:
    """Return the dashboard, to be mounted at /dashboard: its links and its cookie name that path."""
    app = Starlette(
        routes=[
            Route("/login", login.show, methods=["GET"]),
            Route("/login", login.with_key, methods=["POST"]),
            Route("/login/link", login.with_link, methods=["POST"]),
            Route("/logout", login.out, methods=["POST"]),
            Route("/", overview.show, methods=["GET"]),
            Route("/live", overview.live, methods=["GET"]),
            Route("/messages", messages.show_list, methods=["GET"]),
            Route("/messages/live", messages.live_list, methods=["GET"]),
            Route(ONE_MESSAGE, messages.show_one, methods=["GET"]),
            Route(ONE_MESSAGE + "/live", messages.live_one, methods=["GET"]),
            Route(ONE_MESSAGE + "/reveal", messages.reveal, methods=["POST"]),
            Route("/keys", keys.show, methods=["GET"]),
            Route("/keys/live", keys.live, methods=["GET"]),
            Route("/inbox", inbox.show_list, methods=["GET"]),
            Route("/inbox/live", inbox.live_list, methods=["GET"]),
            Route(ONE_MAIL, inbox.show_one, methods=["GET"]),
            Route(ONE_MAIL + "/html", inbox.show_html, methods=["GET"]),
            Route(ONE_MAIL + "/source", inbox.show_source, methods=["GET"]),
            Route(ONE_MAIL + "/source.eml", inbox.download_source, methods=["GET"]),
            Route(ONE_MAIL + "/attachments/{position:int}", inbox.download_file, methods=["GET"]),
            Route("/static/{name}", _static, methods=["GET"]),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={GatewayError: _gateway_error, HTTPException: _http_error, Exception: _unknown_error},
    )
    app.state.context = context
    return app


def _read_static() -> dict[str, Response]:
    """Read the style sheets, scripts and the icon once: they come with the package."""
    found = {}
    for file in (files("email_gateway.dashboard") / "static").iterdir():
        if media_type := STATIC_TYPES.get(file.name.rpartition(".")[2]):
            found[file.name] = Response(file.read_bytes(), media_type=media_type)
    return found


STATIC = _read_static()


async def _static(request: Request) -> Response:
    if request.path_params["name"] not in STATIC:
        raise NotFound("no such file")
    return STATIC[request.path_params["name"]]


async def _gateway_error(request: Request, error: Exception) -> Response:
    """Say what a person can do about it, and nothing about the inside."""
    if isinstance(error, NotFound):
        return _problem(request, 404, "Not found", "There is nothing at this address, or it has been removed.")
    if isinstance(error, Forbidden):
        return _problem(request, 403, "Refused", _sentence(error))
    if isinstance(error, TooLarge):
        return _problem(request, 413, "Too large", _sentence(error))
    if isinstance(error, CallerError):
        return _problem(request, 422, "Not understood", _sentence(error))
    if isinstance(error, TryLater):
        log.warning("page_not_served", error=error)
        response = _problem(
            request, 503, "Not now", "The gateway cannot answer at the moment. Load the page again shortly."
        )
        response.headers["retry-after"] = str(error.retry_after_seconds)
        return response
    log.error("page_failed", exc_info=error)
    return await _unknown_error(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer for an unknown path or a wrong method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return _problem(request, 405, "Not possible", "This address does not take that method.")
    return _problem(request, status, "Not found", "There is nothing at this address.")


async def _unknown_error(request: Request, _: Exception) -> Response:
    """Answer for what should not happen; this one leaves outside the middleware, so it sets the headers itself."""
    response = _problem(request, 500, "Something is wrong", "An operator must look at the gateway's log.")
    response.headers.update(SECURITY_HEADERS)
    return response


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _problem(request: Request, status: int, title: str, detail: str) -> Response:
    context: DashboardContext = request.app.state.context
    keeps_mail = context.keeps_mail
    return page("problem.html", status=status, title=title, detail=detail, number=status, keeps_mail=keeps_mail)
