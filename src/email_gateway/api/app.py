"""The ASGI application: finds the route, checks who calls, runs the handler, sends the answer.

Plain ASGI on purpose: a framework's request objects and middleware would cost more than the
validation, the sealing and the commit's share of one accepted message.
"""

import asyncio
import logging
from functools import lru_cache

import uuid_utils

from email_gateway.api.access import OPERATORS, ApiKeys, check_account, check_admin
from email_gateway.api.bodies import BodyBudget
from email_gateway.api.calls import Call, ClientGone, Receive, Reply, Scope, Send, read_headers
from email_gateway.api.context import ApiContext
from email_gateway.api.correlation import find_request_id, find_traceparent
from email_gateway.api.not_offered import NOT_OFFERED_ROUTES
from email_gateway.api.problems import problem_reply
from email_gateway.api.routes import ROUTES
from email_gateway.api.routing import Access, RouteTable
from email_gateway.errors import CallerError, TryLater
from email_gateway.limits.callers import CallerLimits
from email_gateway.observe import bind, get_logger
from email_gateway.store.quotas import Allowance

log = get_logger(__name__)
_LEVEL = logging.getLogger(__name__)

MOST_TENANTS = 10_000

# Answers hold personal data, and none of them is a page.
_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Api:
    """Serves the routes of `routes.py`. `start` and `stop` are for whoever runs it; ASGI lifespan calls them too."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._for_tenant = lru_cache(MOST_TENANTS)(context.for_tenant)  # it costs more than a look at what is kept
        self._routes = RouteTable((*ROUTES, *NOT_OFFERED_ROUTES))
        self._keys = ApiKeys(context)
        self._budget = BodyBudget()
        settings = context.settings
        chosen = settings.key_rate, settings.key_burst, settings.tenant_daily_quota, settings.tenant_monthly_quota
        self._callers = CallerLimits(context.db, context.limits.link, Allowance(*chosen))
        self._watches: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Begin to watch for API keys and limits that change elsewhere; without it a change takes seconds to show."""
        if not self._watches:
            self._watches = tuple(asyncio.create_task(each.watch()) for each in (self._keys, self._callers))

    async def stop(self) -> None:
        """End what `start` began."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches = ()
        self._context.preparer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, self._budget, str(uuid_utils.uuid7()), headers={})
        bind(request_id=call.request_id)  # the server runs each request as a task of its own
        try:
            reply = await self._answer(call)
        except ClientGone:
            log.info("client_gone", route=call.route)
            return
        finally:
            call.release()
        if _LEVEL.isEnabledFor(logging.DEBUG):  # asked here: binding a logger costs more than the line is worth
            log.debug("request", method=scope["method"], route=call.route, status=reply.status)
        headers: list[tuple[bytes, bytes]] = [
            reply.content_type,
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode()),
            *_ALWAYS,
            *(call.standing.headers if call.standing else ()),
            *reply.headers,
            *_trace(call),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, call: Call) -> Reply:
        try:
            call.headers = read_headers(call.scope)
            if request_id := find_request_id(call.headers):
                call.request_id = request_id
                bind(request_id=request_id)
            route, call.params = self._routes.find(call.scope["method"], call.scope["path"])
            call.route = route.path
            context = self._context
            if route.access in OPERATORS:
                await check_admin(call, context, route.access)
            elif route.access is not Access.PUBLIC:
                call.account = await self._keys.authenticate(call)
                check_account(call, context, full_access=route.access is Access.FULL)
                call.standing = await self._callers.stand(call.account.tenant_id, call.account.api_key_id)
                call.standing.require()
                context = self._for_tenant(call.tenant_id)
            return await route.handler(context, call)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes an answer
            _log_failure(call, error)
            return problem_reply(error, call.request_id, call.headers.get(b"accept", b""))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def build_api(context: ApiContext) -> Api:
    """Return the ASGI application; it answers every path, and those it does not know with a problem."""
    return Api(context)


def _trace(call: Call) -> tuple[tuple[bytes, bytes], ...]:
    """Send the caller's trace back."""
    traceparent = find_traceparent(call.headers)
    return ((b"traceparent", traceparent.encode()),) if traceparent else ()


def _log_failure(call: Call, error: Exception) -> None:
    method, route = call.scope["method"], call.route
    if isinstance(error, CallerError):
        log.info("request_refused", method=method, route=route, code=error.code)
    elif isinstance(error, TryLater):
        log.warning("request_not_served", method=method, route=route, error=error)
    else:
        log.error("request_failed", method=method, route=route, exc_info=error)
