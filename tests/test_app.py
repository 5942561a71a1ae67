from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from email_gateway.app import Site

pytestmark = pytest.mark.anyio


async def api(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("the api")(scope, receive, send)


async def seen(request: Request) -> JSONResponse:
    return JSONResponse({"scheme": request.url.scheme, "client": request.client and request.client.host})


PAGES = Starlette(routes=[Route("/", seen), Route("/{rest:path}", seen)])
FORWARDED = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}


async def get(path: str, *, peer: str = "192.0.2.1", trusted: str | None = None, **named: Any) -> httpx.Response:
    site: Any = Site(api, PAGES, [ip_network(trusted)] if trusted else [])  # type: ignore[arg-type]
    transport = httpx.ASGITransport(site, client=(peer, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get(path, **named)


@pytest.mark.parametrize("path", ["/v1/emails", "/admin/dlq", "/openapi.json", "/metrics", "/nothing", "/dashboards"])
async def test_the_api_answers_every_path_that_is_no_page(path: str) -> None:
    assert (await get(path)).text == "the api"


@pytest.mark.parametrize("path", ["/dashboard/", "/dashboard/login"])
async def test_the_dashboard_is_under_its_path(path: str) -> None:
    assert (await get(path)).json()["scheme"] == "http"


@pytest.mark.parametrize("path", ["/", "/dashboard"])
async def test_whoever_types_the_host_alone_is_led_to_the_dashboard(path: str) -> None:
    answer = await get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/")


@pytest.mark.parametrize("peer", ["192.0.2.1", "::ffff:192.0.2.1"])
async def test_what_a_trusted_proxy_says_of_the_browser_counts_for_the_dashboard(peer: str) -> None:
    answer = await get("/dashboard/", peer=peer, trusted="192.0.2.0/24", headers=FORWARDED)
    assert answer.json() == {"scheme": "https", "client": "198.51.100.7"}


@pytest.mark.parametrize("trusted", [None, "10.0.0.0/8"])
async def test_what_anybody_else_says_does_not(trusted: str | None) -> None:
    answer = await get("/dashboard/", trusted=trusted, headers=FORWARDED)
    assert answer.json() == {"scheme": "http", "client": "192.0.2.1"}


async def test_a_proxy_that_speaks_http_to_the_browser_makes_no_https() -> None:
    answer = await get("/dashboard/", trusted="192.0.2.0/24", headers={"X-Forwarded-Proto": "https, http"})
    assert answer.json()["scheme"] == "http"
