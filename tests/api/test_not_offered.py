"""Every operation of Resend's API is routed, or answered 501 as an error that its SDKs raise."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import ResendError

from email_gateway.api.not_offered import METHODS, NOT_OFFERED, NOT_OFFERED_ROUTES, refuse_not_offered
from email_gateway.api.routes import ROUTES
from email_gateway.api.routing import Route, RouteTable
from tests.api.house import Served

pytestmark = pytest.mark.anyio

# Made from the `paths` of Resend's published OpenAPI document; tests/vectors/README.md says how.
OPERATIONS = (Path(__file__).parents[1] / "vectors" / "resend-operations.txt").read_text().splitlines()
TABLE = RouteTable((*ROUTES, *NOT_OFFERED_ROUTES))


def route_of(operation: str) -> Route:
    method, _, path = operation.partition(" ")
    return TABLE.find(method, "/v1" + re.sub(r"\{\w+\}", "01a22b89-11a7-7366-913b-75d7418f1de7", path))[0]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_of_resend_is_routed_or_said_not_to_be_offered(operation: str) -> None:
    is_refused = route_of(operation).handler is refuse_not_offered
    path = "/v1" + operation.partition(" ")[2]
    is_listed = any(path == listed or path.startswith(f"{listed}/") for listed in NOT_OFFERED)
    assert is_refused == is_listed


async def test_they_are_not_in_the_document(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if any(path.startswith(listed) for listed in NOT_OFFERED)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/v1/contacts", "/v1/broadcasts/1/send", "/v1/inboxes/1/threads/2/labels/3"])
async def test_whatever_is_asked_of_them_is_501(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, content=b"{not json")
    problem = answer.json()
    assert (answer.status_code, problem["statusCode"], problem["name"]) == (501, 501, "not_implemented")
    assert path.split("/")[2] in problem["message"]


async def test_without_a_key_nobody_learns_what_is_offered(shared: Served) -> None:
    async with shared.client("") as nobody:
        assert (await nobody.get("/v1/contacts")).status_code == 401
    async with shared.client("eg_wrong") as stranger:
        assert (await stranger.get("/v1/contacts")).status_code == 403


async def test_paths_that_nobody_has_are_404(client: httpx.AsyncClient) -> None:
    for path in ("/v1/contactsandmore", "/v1/nothing", "/contacts"):
        assert (await client.get(path)).status_code == 404


Ask = Callable[[], Any]
ASKED: dict[str, Ask] = {
    "audiences": resend.Audiences.list,
    "automations": resend.Automations.list,
    "broadcasts": lambda: resend.Broadcasts.send({"broadcast_id": "1"}),
    "contact properties": resend.ContactProperties.list,
    "contacts": lambda: resend.Contacts.create({"email": "maria@example.net"}),
    "contacts of an audience": lambda: resend.Contacts.list("1"),
    "metrics": resend.Emails.metrics,
    "received": resend.Emails.Receiving.list,
    "a received one": lambda: resend.Emails.Receiving.get("1"),
    "share": lambda: resend.Emails.share("01a22b89-11a7-7366-913b-75d7418f1de7"),
    "events": resend.Events.list,
    "logs": resend.Logs.list,
    "segments": lambda: resend.Segments.remove("1"),
    "topics": lambda: resend.Topics.get("1"),
}


@pytest.mark.usefixtures("sdk")
@pytest.mark.filterwarnings("ignore:Audiences is deprecated")
@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_the_sdk_raises_its_own_error(ask: Ask) -> None:
    with pytest.raises(ResendError, match="does not offer") as refused:
        await asyncio.to_thread(ask)
    assert (refused.value.code, refused.value.error_type) == (501, "not_implemented")


@pytest.mark.usefixtures("sdk")
async def test_the_asynchronous_sdk_raises_its_own_error() -> None:
    for asked in (resend.Contacts.list_async(), resend.Topics.list_async(), resend.Emails.Receiving.list_async()):
        with pytest.raises(ResendError) as refused:
            await asked
        assert (refused.value.code, refused.value.error_type) == (501, "not_implemented")
