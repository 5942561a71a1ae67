import asyncio
import base64
import uuid
from typing import Any

import httpx
import msgspec
import pytest

from email_gateway.mail.content import Attachment, Content
from email_gateway.store.messages import get_message, list_sealed_attachments
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio


async def count(api: Served) -> int:
    row = await api.db.fetch_one("SELECT count(*) AS messages FROM message WHERE tenant_id = $1", api.acme)
    assert row is not None
    return int(row["messages"])


async def opened(api: Served, message_id: str) -> Content:
    message = await get_message(api.db, api.acme, uuid.UUID(message_id))
    return msgspec.msgpack.decode(await api.context.keyring.open(api.acme, *message.shown), type=Content)


async def test_a_message_is_answered_202_with_its_id_and_stored_sealed(api: Served, acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/emails", json=email(cc="Zé <ze@exämple.net>", bcc=["b@example.org"]))
    assert answer.status_code == 202
    assert set(answer.json()) == {"id"}
    content = await opened(api, answer.json()["id"])
    assert content.sender.name == "Acme"
    assert content.envelope == ("maria@example.net", "ze@xn--exmple-cua.net", "b@example.org")
    message = await get_message(api.db, api.acme, uuid.UUID(answer.json()["id"]))
    assert [delivery.domain for delivery in message.deliveries] == ["example.net", "xn--exmple-cua.net", "example.org"]
    assert message.sender_domain == "acme.example"


async def test_sender_and_recipient_may_each_be_a_string_or_a_list(api: Served, acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/emails", json=email(**{"from": ["a@acme.example"], "to": "b@example.net"}))
    assert answer.status_code == 202
    assert (await opened(api, answer.json()["id"])).envelope == ("b@example.net",)


async def test_one_address_given_twice_is_one_delivery(api: Served, acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/emails", json=email(to=["a@example.net", "A <a@example.net>"], cc="A@example.net"))
    assert answer.status_code == 202
    # Another case of the local part is another mailbox by RFC 5321, and one entry of the index.
    assert (await opened(api, answer.json()["id"])).envelope == ("a@example.net", "A@example.net")


@pytest.mark.parametrize(
    "content",
    [
        base64.b64encode(b"\x00\xffabc").decode(),
        base64.encodebytes(b"\x00\xffabc").decode(),
        [0, 255, 97, 98, 99],
        {"type": "Buffer", "data": [0, 255, 97, 98, 99]},
    ],
)
async def test_an_attachment_may_be_base64_or_a_list_or_a_buffer(
    api: Served, acme: httpx.AsyncClient, content: Any
) -> None:
    attachment = {"filename": "nota.pdf", "content": content, "content_id": "nota"}
    answer = await acme.post("/v1/emails", json=email(attachments=[attachment]))
    assert answer.status_code == 202, answer.text
    ((attachment_id, sealed),) = await list_sealed_attachments(api.db, api.acme, uuid.UUID(answer.json()["id"]))
    packed = await api.context.keyring.open(api.acme, "attachment.content", attachment_id, sealed)
    assert msgspec.msgpack.decode(packed, type=Attachment) == Attachment(
        "nota.pdf", "application/pdf", b"\x00\xffabc", "nota"
    )


async def test_a_large_message_is_accepted_and_opens_again(api: Served, acme: httpx.AsyncClient) -> None:
    html = "<p>" + "á" * 300_000
    answer = await acme.post("/v1/emails", json=email(html=html))
    assert answer.status_code == 202
    assert (await acme.get(f"/v1/emails/{answer.json()['id']}")).json()["html"] == html


async def test_what_the_caller_chose_about_delivery_is_stored(api: Served, acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/emails", json=email(on_doubt="hold", expires_after=600))
    row = await api.db.fetch_one(
        "SELECT on_doubt, dead_at_expiry, expires_at - created_at AS lifetime FROM message WHERE message_id = $1",
        uuid.UUID(answer.json()["id"]),
    )
    assert row is not None
    assert (row["on_doubt"], row["dead_at_expiry"], row["lifetime"].total_seconds()) == ("hold", False, 600)


async def test_a_batch_is_a_list_or_an_object_and_answers_ids_in_order(api: Served, acme: httpx.AsyncClient) -> None:
    emails = [email(subject=f"number {index}") for index in range(3)]
    for body in (emails, {"emails": emails}):
        answer = await acme.post("/v1/emails/batch", json=body)
        assert answer.status_code == 202
        subjects = [(await opened(api, one["id"])).subject for one in answer.json()["data"]]
        assert subjects == ["number 0", "number 1", "number 2"]
        assert "errors" not in answer.json()
    assert await count(api) == 6


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_of_none_or_over_1000_is_refused(api: Served, acme: httpx.AsyncClient, size: int) -> None:
    answer = await acme.post("/v1/emails/batch", json=[email()] * size)
    assert answer.status_code == 422
    assert await count(api) == 0


@pytest.mark.parametrize("text", ["x", "x" * 3000], ids=["in a thread", "in the process for large bodies"])
async def test_a_batch_of_1000_is_accepted(api: Served, acme: httpx.AsyncClient, text: str) -> None:
    answer = await acme.post("/v1/emails/batch", json=[email(text=text)] * 1000)
    assert (answer.status_code, len({one["id"] for one in answer.json()["data"]})) == (202, 1000)
    assert await count(api) == 1000


async def test_a_batch_of_1000_may_have_two_hundred_strings_a_message_and_not_many_more(
    api: Served, acme: httpx.AsyncClient
) -> None:
    fields = {"tags": [{"name": f"n{n}", "value": "v"} for n in range(40)]}
    answer = await acme.post("/v1/emails/batch", json=[email(**fields)] * 1000)
    assert (answer.status_code, await count(api)) == (202, 1000)
    fields = {"tags": [{"name": f"n{n}", "value": "v"} for n in range(60)]}
    answer = await acme.post("/v1/emails/batch", json=[email(**fields)] * 1000)
    assert (answer.status_code, answer.json()["errors"][0]["detail"][:17]) == (422, "send fewer values")
    assert await count(api) == 1000


async def test_a_strict_batch_with_one_bad_member_stores_nothing_and_points_at_it(
    api: Served, acme: httpx.AsyncClient
) -> None:
    for body, pointer in (
        ([email(), email(to="nowhere")], "/1/to"),
        ({"emails": [email(), email(to="nowhere")]}, "/emails/1/to"),
        ([email(), email(subject=7)], "/1/subject"),
    ):
        answer = await acme.post("/v1/emails/batch", json=body)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await count(api) == 0


async def test_a_permissive_batch_stores_the_good_and_names_the_others(api: Served, acme: httpx.AsyncClient) -> None:
    bodies = [email(), email(to="nowhere"), {"from": 7}, email(), 7]
    answer = await acme.post("/v1/emails/batch", json=bodies, headers={"x-batch-validation": "permissive"})
    assert answer.status_code == 202
    assert len(answer.json()["data"]) == 2
    assert [error["index"] for error in answer.json()["errors"]] == [1, 2, 4]
    assert all(error["message"] for error in answer.json()["errors"])
    assert await count(api) == 2


async def test_a_permissive_batch_without_a_good_member_is_refused(api: Served, acme: httpx.AsyncClient) -> None:
    answer = await acme.post(
        "/v1/emails/batch", json=[email(to="nowhere")], headers={"x-batch-validation": "permissive"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/0/to"


async def test_an_unknown_batch_mode_is_refused(acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/emails/batch", json=[email()], headers={"x-batch-validation": "lenient"})
    assert answer.status_code == 422


async def test_fifty_at_once_with_one_key_store_one_message(api: Served, acme: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order 1"}
    answers = await asyncio.gather(*(acme.post("/v1/emails", json=email(), headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
    assert await count(api) == 1


async def test_a_repeated_batch_answers_the_same_ids(api: Served, acme: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": '"quoted"'}
    first = await acme.post("/v1/emails/batch", json=[email(), email()], headers=headers)
    again = await acme.post("/v1/emails/batch", json=[email(), email()], headers={"idempotency-key": "quoted"})
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(api) == 2


async def test_another_body_under_the_same_key_is_409(api: Served, acme: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order 2"}
    await acme.post("/v1/emails", json=email(), headers=headers)
    answer = await acme.post("/v1/emails", json=email(subject="Another"), headers=headers)
    assert (answer.status_code, answer.json()["name"]) == (409, "invalid_idempotent_request")
    assert await count(api) == 1


async def test_a_refused_request_does_not_use_its_key_up(api: Served, acme: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order 3"}
    assert (await acme.post("/v1/emails", json=email(to="nowhere"), headers=headers)).status_code == 422
    assert (await acme.post("/v1/emails", json=email(), headers=headers)).status_code == 202
    assert await count(api) == 1


async def test_tenants_do_not_share_idempotency_keys(api: Served, acme: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order 4"}
    async with api.client(api.other_key) as other:
        mine = await acme.post("/v1/emails", json=email(), headers=headers)
        theirs = await other.post("/v1/emails", json=email(), headers=headers)
    assert mine.json() != theirs.json()
    assert "idempotency-replayed" not in theirs.headers


@pytest.mark.parametrize("key", ["", "x" * 257, "tab\there"])
async def test_an_unusable_idempotency_key_is_refused(acme: httpx.AsyncClient, key: str) -> None:
    answer = await acme.post("/v1/emails", json=email(), headers={"idempotency-key": key})
    assert answer.status_code == 422
