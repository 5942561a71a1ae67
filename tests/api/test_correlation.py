"""A caller's own id of a request, and its trace: taken over when they are well-formed, else as if they had not come."""

import uuid

import httpx
import pytest

from email_gateway.api.correlation import find_request_id, find_traceparent
from email_gateway.store.traces import trace_message
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST_ID = "a3f1c9d2-0b1e-4c55-9f10-6f1d2b3c4d5e"


@pytest.mark.parametrize(
    "text", [REQUEST_ID, "x" * 20, "x" * 128, "01JDXWQZ5N8Q2M7C9V4T6K3B1A", "Root=1-67891233-abcdef012345678912345678"]
)
def test_an_id_of_common_make_is_taken_over(text: str) -> None:
    assert find_request_id({b"x-request-id": text.encode()}) == text


@pytest.mark.parametrize(
    "value",
    [
        b"", b"x" * 19, b"x" * 129, b"529.982.247-25", b"maria.aparecida.da.silva", b"maria.silva@example.net", b"a b c d e f g h i j k l",
        b"x" * 20 + b"\n", b"x" * 20 + b"\xe9", b"{\"id\": \"aaaaaaaaaaaaaaaa\"}",
    ],
)  # fmt: skip
def test_an_id_that_could_be_something_else_is_not(value: bytes) -> None:
    assert find_request_id({b"x-request-id": value}) is None


@pytest.mark.parametrize(
    "value",
    [
        b"", TRACE.upper().encode(), TRACE.encode() + b"-x", b"01" + TRACE[2:].encode(), b"ff" + TRACE[2:].encode(),
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        TRACE[:-1].encode(), TRACE.replace("4", "g").encode(),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_none(value: bytes) -> None:
    assert find_traceparent({b"traceparent": value}) is None
    assert find_traceparent({b"traceparent": TRACE.encode()}) == TRACE


async def test_every_answer_has_the_callers_id_and_trace(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-Id": REQUEST_ID, "traceparent": TRACE}
    for answer in (
        await client.post("/v1/emails", json=email(), headers=headers),
        await client.post("/v1/emails", json=email(to="nowhere"), headers=headers),
        await client.get("/nowhere", headers=headers),
    ):
        assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == (REQUEST_ID, TRACE)
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == REQUEST_ID


async def test_others_get_an_id_of_ours_and_no_trace(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/emails", json=email(), headers={"X-Request-Id": "1", "traceparent": "00-1-1-1"})
    assert uuid.UUID(answer.headers["x-request-id"]).version == 7
    assert "traceparent" not in answer.headers
    assert (await client.get(f"/v1/emails/{answer.json()['id']}")).json()["traceparent"] is None


@pytest.mark.parametrize("text", ["x", "x" * 1_100_000], ids=["small", "large"])
async def test_a_messages_story_keeps_its_trace(api: Served, acme: httpx.AsyncClient, text: str) -> None:
    one = await acme.post("/v1/emails", json=email(text=text), headers={"traceparent": TRACE})
    two = await acme.post("/v1/emails/batch", json=[email(), email()], headers={"traceparent": TRACE})
    for message_id in (one.json()["id"], *(each["id"] for each in two.json()["data"])):
        assert (await acme.get(f"/v1/emails/{message_id}")).json()["traceparent"] == TRACE
        assert (await trace_message(api.db, uuid.UUID(message_id))).traceparent == TRACE
        async with api.admin() as admin:
            story = (await admin.get(f"/admin/messages/{message_id}/trace")).json()
        assert story["traceparent"] == TRACE
