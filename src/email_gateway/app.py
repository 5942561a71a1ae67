"""The api process: settings become the HTTP interface and the dashboard, served on sockets until told to stop."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Mount

from email_gateway.api import Api, ApiContext, build_api, know_verified_domains
from email_gateway.api.certificate import Certificate
from email_gateway.api.clients import client_address, is_within
from email_gateway.api.server import make_server
from email_gateway.dashboard import DashboardContext, build_dashboard
from email_gateway.foundation import Foundation, open_foundation
from email_gateway.limits import Limits
from email_gateway.observe import get_logger
from email_gateway.settings import Settings
from email_gateway.store.accepting import Acceptor
from email_gateway.store.logins import require_tenant_role

log = get_logger(__name__)

DASHBOARD = "/dashboard"
SWITCH_SECONDS = 0.0005

Scope = dict[str, Any]
Network = IPv4Network | IPv6Network


async def run_api(settings: Settings, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serve the API and the dashboard until `stop` is set, then answer what has been asked and return."""
    # A thread that decodes a large body gives the loop its turn ten times sooner than by default.
    sys.setswitchinterval(SWITCH_SECONDS)
    certificate = find_certificate(settings)
    url = _url_of(sockets[0], "https" if certificate else "http")
    async with open_foundation(settings, "api") as foundation, open_site(foundation, url) as site:
        server = make_server(site, certificate=certificate)
        stopping = asyncio.create_task(_stop_when(stop, server.stop))
        log.info("api_ready", port=sockets[0].getsockname()[1])
        try:
            await server.serve(sockets=list(sockets))
        finally:
            stopping.cancel()
        log.info("api_stopped")


def find_certificate(settings: Settings) -> Certificate | None:
    """Return the API's own certificate, where it has one; raises ConfigurationError when it cannot serve."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_cert_file, settings.tls_key_file)


@contextlib.asynccontextmanager
async def open_site(foundation: Foundation, url: str) -> AsyncIterator["Site"]:
    """Put the API and the dashboard on a foundation; what was accepted is stored before this closes.

    Raises ConfigurationError where the database's login may not act for tenants.
    """
    await require_tenant_role(foundation.db)
    settings, secrets = foundation.settings, foundation.secrets
    redis = secrets.find("redis-url")
    limits = Limits(redis.value if redis else settings.redis_url)
    acceptor = Acceptor(foundation.db)
    api = build_api(
        ApiContext(
            settings,
            foundation.db,
            foundation.keyring,
            secrets,
            acceptor,
            limits,
            foundation.fleet,
            know_verified_domains(foundation.db),
        )
    )
    dashboard = build_dashboard(
        DashboardContext(
            foundation.db,
            foundation.keyring,
            secrets,
            has_inbox=settings.transport == "inbox",
            keeps_mail=settings.keeps_mail,
            api_url=f"{url}/v1",
            requires_https=settings.is_deployed,
            limits=limits,
        )
    )
    try:
        yield Site(api, dashboard, settings.trusted_proxies)
    finally:
        await acceptor.close()
        await limits.close()


class Site:
    """One ASGI application: the dashboard under /dashboard, the API for every other path.

    The API reads the headers of proxies itself; for the dashboard this says who is in front.
    """

    def __init__(self, api: Api, dashboard: Starlette, trusted_proxies: Sequence[Network]) -> None:
        self._api = api
        self._pages = Starlette(routes=[Mount(DASHBOARD, app=dashboard)])
        self._trusted = trusted_proxies

    async def __call__(self, scope: Scope, receive: Callable[..., Awaitable[Any]], send: Callable[..., Any]) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not _is_page(path):
            await self._api(scope, receive, send)
        elif path in ("/", DASHBOARD):
            await RedirectResponse(f"{DASHBOARD}/", status_code=303)(scope, receive, send)
        else:
            await self._pages(_seen_through(scope, self._trusted), receive, send)


def _is_page(path: str) -> bool:
    return path in ("/", DASHBOARD) or path.startswith(f"{DASHBOARD}/")


def _seen_through(scope: Scope, trusted: Sequence[Network]) -> Scope:
    """Return the request as the browser made it, where a trusted proxy passed it on."""
    peer = scope.get("client")
    if not trusted or not peer or not _is_trusted(peer[0], trusted):
        return scope
    schemes = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    is_https = schemes[-1:] == [b"https"]
    return {**scope, "client": (client_address(scope, trusted), 0), "scheme": "https" if is_https else scope["scheme"]}


def _is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    address = ipaddress.ip_address(peer)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # on a listener for both
    return is_within(mapped or address, trusted)


async def _stop_when(stop: asyncio.Event, act: Callable[[], None]) -> None:
    await stop.wait()
    act()


def _url_of(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
