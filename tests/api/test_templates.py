"""Templates over HTTP: made, changed, published, sent; and what is refused."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from email_gateway.mail.content import Content
from email_gateway.mail.templates import Template, Variable
from tests.api.house import Served, email
from tests.marks import MARK

pytestmark = pytest.mark.anyio

ORDER = {
    "name": "Order",
    "alias": "order",
    "from": "Acme <orders@acme.example>",
    "reply_to": ["help@acme.example"],
    "subject": "Order {{{NUMBER}}}",
    "html": "<p>Hello {{{NAME}}}, your order {{{NUMBER}}} is on its way.",
    "text": "Hello {{{NAME}}}",
    "variables": [
        {"key": "NAME", "type": "string", "fallback_value": "you"},
        {"key": "NUMBER", "type": "number"},
    ],
}
TO = {"to": "maria@example.net"}


async def make(acme: httpx.AsyncClient, *, is_published: bool = True, **changes: Any) -> str:
    created = await acme.post("/v1/templates", json={**ORDER, **changes})
    assert created.status_code == 201, created.text
    template_id: str = created.json()["id"]
    if is_published:
        assert (await acme.post(f"/v1/templates/{template_id}/publish")).json()["id"] == template_id
    return template_id


async def sent(api: Served, acme: httpx.AsyncClient, message: dict[str, Any]) -> Content:
    """Send a message; return what was sealed of it."""
    answer = await acme.post("/v1/emails", json=message)
    assert answer.status_code == 202, answer.text
    return await sealed_content(api, answer.json()["id"])


async def sealed_content(api: Served, email_id: str) -> Content:
    row = await api.db.fetch_one("SELECT sealed_content FROM message WHERE message_id = $1", UUID(email_id))
    assert row is not None
    opened = await api.context.keyring.open(api.acme, "message.content", UUID(email_id), row["sealed_content"])
    return msgspec.msgpack.decode(opened, type=Content)


async def test_a_template_is_made_read_and_listed(acme: httpx.AsyncClient) -> None:
    template_id = await make(acme, is_published=False)
    read = (await acme.get(f"/v1/templates/{template_id}")).json()
    assert {name: read[name] for name in ORDER if name != "variables"} == {
        name: value for name, value in ORDER.items() if name != "variables"
    }
    assert [(one["key"], one["type"], one["fallback_value"]) for one in read["variables"]] == [
        ("NAME", "string", "you"),
        ("NUMBER", "number", None),
    ]
    assert (read["object"], read["status"], read["published_at"]) == ("template", "draft", None)
    assert read["has_unpublished_versions"] is True
    assert (await acme.get("/v1/templates/order")).json() == read
    listed = (await acme.get("/v1/templates")).json()
    assert listed["object"] == "list"
    assert listed["has_more"] is False
    assert [(one["id"], one["alias"], one["status"]) for one in listed["data"]] == [(template_id, "order", "draft")]


async def test_templates_are_listed_by_page_in_both_directions(acme: httpx.AsyncClient) -> None:
    made = [await make(acme, is_published=False, alias=f"a{number}") for number in range(3)]
    first = (await acme.get("/v1/templates", params={"limit": 2})).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    older = (await acme.get("/v1/templates", params={"after": made[1]})).json()
    assert [one["id"] for one in older["data"]] == [made[0]]
    newer = (await acme.get("/v1/templates", params={"before": made[0], "limit": 1})).json()
    assert ([one["id"] for one in newer["data"]], newer["has_more"]) == ([made[1]], True)
    both = await acme.get("/v1/templates", params={"before": made[0], "after": made[2]})
    assert both.status_code == 422


async def test_what_is_sent_is_sealed_as_it_was_rendered(api: Served, acme: httpx.AsyncClient) -> None:
    await make(acme)
    template = {"id": "order", "variables": {"NUMBER": 7, "NAME": "<b>Ana</b>"}}
    content = await sent(api, acme, {**TO, "template": template})
    assert content.html == "<p>Hello &lt;b&gt;Ana&lt;/b&gt;, your order 7 is on its way."
    assert (content.text, content.subject) == ("Hello <b>Ana</b>", "Order 7")
    assert (content.sender.name, content.sender.email) == ("Acme", "orders@acme.example")
    assert [address.email for address in content.reply_to] == ["help@acme.example"]


async def test_what_the_request_says_goes_before_the_template(api: Served, acme: httpx.AsyncClient) -> None:
    await make(acme)
    message = {**TO, "from": "other@acme.example", "subject": "Mine", "reply_to": "me@acme.example"}
    content = await sent(api, acme, {**message, "template": {"id": "order", "variables": {"NUMBER": 7}}})
    assert (content.sender.email, content.subject, content.html) == (
        "other@acme.example",
        "Mine",
        "<p>Hello you, your order 7 is on its way.",
    )
    assert [address.email for address in content.reply_to] == ["me@acme.example"]


async def test_a_draft_is_sent_only_once_it_is_published(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme, is_published=False)
    message = {**TO, "template": {"id": template_id, "variables": {"NUMBER": 1}}}
    refused = await acme.post("/v1/emails", json=message)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/template/id")
    await acme.post("/v1/templates/order/publish")
    assert (await sent(api, acme, message)).subject == "Order 1"
    changed = await acme.patch("/v1/templates/order", json={"subject": "Your order {{{NUMBER}}}", "text": None})
    assert changed.json() == {"id": template_id, "object": "template"}
    read = (await acme.get("/v1/templates/order")).json()
    assert (read["subject"], read["text"], read["status"]) == ("Your order {{{NUMBER}}}", None, "published")
    assert read["has_unpublished_versions"] is True
    assert (await sent(api, acme, message)).subject == "Order 1"
    await acme.post(f"/v1/templates/{template_id}/publish")
    assert (await sent(api, acme, message)).subject == "Your order 1"
    assert (await acme.get("/v1/templates/order")).json()["has_unpublished_versions"] is False


async def test_versions_that_nothing_points_at_are_gone(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    for number in range(3):
        await acme.patch("/v1/templates/order", json={"subject": f"{number}"})
    assert await count_versions(api, template_id) == 2  # what is sent, and what is edited
    await acme.post("/v1/templates/order/publish")
    assert await count_versions(api, template_id) == 1
    await acme.delete("/v1/templates/order")
    assert await count_versions(api, template_id) == 0


async def count_versions(api: Served, template_id: str) -> int:
    rows = await api.db.fetch("SELECT FROM template_version WHERE template_id = $1", UUID(template_id))
    return len(rows)


async def test_a_copy_is_a_draft_of_its_own(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme, name="x" * 256)
    copied = await acme.post("/v1/templates/order/duplicate")
    assert copied.status_code == 201
    copy = (await acme.get(f"/v1/templates/{copied.json()['id']}")).json()
    assert (copy["name"], copy["alias"], copy["status"]) == (f"{'x' * 249} (copy)", None, "draft")
    await acme.patch(f"/v1/templates/{copy['id']}", json={"html": "another {{NAME}}"})
    assert (await acme.get(f"/v1/templates/{template_id}")).json()["html"] == ORDER["html"]


async def test_a_deleted_template_is_not_sent_and_what_was_sent_stays(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    message = {**TO, "template": {"id": "order", "variables": {"NUMBER": 1}}}
    answer = await acme.post("/v1/emails", json=message)
    deleted = await acme.delete("/v1/templates/order")
    assert deleted.json() == {"id": template_id, "deleted": True, "object": "template"}
    assert (await acme.post("/v1/emails", json=message)).status_code == 422
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/publish"), ("POST", "/duplicate")):
        gone = await acme.request(method, f"/v1/templates/{template_id}{path}", json={})
        assert gone.status_code == 404, (method, path)
    assert (await sealed_content(api, answer.json()["id"])).subject == "Order 1"


async def test_another_tenants_templates_are_neither_found_nor_sent(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    async with api.client(api.other_key) as other:
        for name in (template_id, "order"):
            for method, path in (
                ("GET", ""),
                ("PATCH", ""),
                ("DELETE", ""),
                ("POST", "/publish"),
                ("POST", "/duplicate"),
            ):
                answer = await other.request(method, f"/v1/templates/{name}{path}", json={})
                assert answer.status_code == 404, (method, path)
            message = {**TO, "template": {"id": name, "variables": {"NUMBER": 1}}}
            assert (await other.post("/v1/emails", json=message)).status_code == 422
        assert (await other.get("/v1/templates")).json()["data"] == []
        assert (await other.post("/v1/templates", json=ORDER)).status_code == 201  # an alias is a tenant's own
    assert (await acme.get("/v1/templates/order")).json()["id"] == template_id


async def test_a_batch_is_rendered_message_by_message(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    batch = [
        {**TO, "template": {"id": "order", "variables": {"NUMBER": 1}}},
        email(subject="Plain"),
        {**TO, "template": {"id": template_id.upper(), "variables": {"NUMBER": 2}}},
    ]
    answer = await acme.post("/v1/emails/batch", json=batch)
    assert answer.status_code == 202, answer.text
    contents = [await sealed_content(api, one["id"]) for one in answer.json()["data"]]
    assert [content.subject for content in contents] == ["Order 1", "Plain", "Order 2"]


async def test_a_strict_batch_names_each_mistake_and_a_permissive_one_takes_the_rest(
    api: Served, acme: httpx.AsyncClient
) -> None:
    await make(acme)
    batch = [
        {**TO, "template": {"id": "order"}},
        {**TO, "template": {"id": "order", "variables": {"NUMBER": 2}}},
        {**TO, "template": {"id": "nothing"}},
        {"to": 5},
    ]
    strict = await acme.post("/v1/emails/batch", json=batch[:3])
    assert strict.status_code == 422
    assert [error["pointer"] for error in strict.json()["errors"]] == ["/0/template/variables/NUMBER", "/2/template/id"]
    permissive = await acme.post("/v1/emails/batch", json=batch, headers={"x-batch-validation": "permissive"})
    assert permissive.status_code == 202
    assert [error["index"] for error in permissive.json()["errors"]] == [0, 2, 3]
    assert (await sealed_content(api, permissive.json()["data"][0]["id"])).subject == "Order 2"


@pytest.mark.parametrize(
    ("variables", "pointer", "words"),
    [
        (None, "/template/variables/NUMBER", "give NUMBER a value"),
        ({"NUMBER": None}, "/template/variables/NUMBER", "give NUMBER a value"),
        ({"NUMBER": MARK}, "/template/variables/NUMBER", "send a number"),
        ({"NUMBER": True}, "/template/variables/NUMBER", "send a number"),
        ({"NUMBER": 2**53}, "/template/variables/NUMBER", "2^53"),
        ({"NUMBER": 1, "NAME": MARK * 500}, "/template/variables/NAME", "shorten"),
    ],
)
async def test_a_variable_that_cannot_be_sent_is_named(
    acme: httpx.AsyncClient, variables: Any, pointer: str, words: str
) -> None:
    await make(acme)
    answer = await acme.post("/v1/emails", json={**TO, "template": {"id": "order", "variables": variables}})
    assert (answer.status_code, answer.json()["name"]) == (422, "validation_error")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]
    assert MARK not in answer.text


@pytest.mark.parametrize("breaker", ["\r\nBcc: x@example.net", "\n", "\r", "\u2028", "\x0b", "\u202e"])
async def test_a_value_that_would_break_the_subject_is_refused(acme: httpx.AsyncClient, breaker: str) -> None:
    await make(acme, subject="Hello {{{NAME}}}")
    variables = {"NUMBER": 1, "NAME": f"Ana{breaker}"}
    answer = await acme.post("/v1/emails", json={**TO, "template": {"id": "order", "variables": variables}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/template/variables")


async def test_what_neither_request_nor_template_says_is_missing(acme: httpx.AsyncClient) -> None:
    nothing: dict[str, Any] = {"from": None, "subject": None}
    await make(acme, **nothing)
    message = {**TO, "template": {"id": "order", "variables": {"NUMBER": 1}}}
    answer = await acme.post("/v1/emails", json=message)
    assert (answer.status_code, answer.json()["name"]) == (422, "missing_required_field")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/from", "/subject"]


async def test_a_body_beside_a_template_is_refused(acme: httpx.AsyncClient) -> None:
    await make(acme)
    message = {**TO, "html": "x", "text": "x", "template": {"id": "order", "variables": {"NUMBER": 1}}}
    answer = await acme.post("/v1/emails", json=message)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/html", "/text"]


async def test_a_replay_answers_as_before_though_the_template_has_changed(acme: httpx.AsyncClient) -> None:
    await make(acme)
    message = {**TO, "template": {"id": "order", "variables": {"NUMBER": 1}}}
    first = await acme.post("/v1/emails", json=message, headers={"idempotency-key": "k"})
    await acme.patch("/v1/templates/order", json={"subject": "Changed"})
    await acme.post("/v1/templates/order/publish")
    again = await acme.post("/v1/emails", json=message, headers={"idempotency-key": "k"})
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")


async def test_a_template_is_sent_with_a_large_attachment(api: Served, acme: httpx.AsyncClient) -> None:
    await make(acme)
    message = {**TO, "template": {"id": "order", "variables": {"NUMBER": 1}}}
    big = {"filename": "a.bin", "content": "A" * 2_000_000}
    content = await sent(api, acme, {**message, "attachments": [big]})
    assert content.subject == "Order 1"
    refused = await acme.post("/v1/emails", json={**TO, "template": {"id": "order"}, "attachments": [big]})
    assert refused.json()["errors"][0]["pointer"] == "/template/variables/NUMBER"


async def test_a_large_template_is_rendered_beside_the_event_loop(api: Served, acme: httpx.AsyncClient) -> None:
    await make(acme, html="x" * 200_000 + "{{{NAME}}}")
    content = await sent(api, acme, {**TO, "template": {"id": "order", "variables": {"NUMBER": 1, "NAME": "Ana"}}})
    assert (content.html or "").endswith("xAna")
    assert len(content.html or "") == 200_003


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"name": f"{MARK}\n"}, "/name"),
    ({"alias": f"{MARK}/x"}, "/alias"),
    ({"alias": "00000000-0000-7000-8000-000000000000"}, "/alias"),
    ({"html": "{{{OTHER}}}"}, "/html"),
    ({"html": f"<p {MARK}={{{{NAME}}}}>"}, "/html"),
    ({"html": None}, "/html"),
    ({"text": "{{#if NAME}}"}, "/text"),
    ({"subject": "{{OTHER}}"}, "/subject"),
    ({"subject": f"{MARK}\nBcc: x"}, "/subject"),
    ({"subject": "x" * 999}, "/subject"),
    ({"from": MARK}, "/from"),
    ({"from": "{{{NAME}}} <a@acme.example>"}, "/from"),
    ({"reply_to": ["a@acme.example", MARK]}, "/reply_to/1"),
    ({"reply_to": ["a@acme.example"] * 51}, "/reply_to"),
    ({"variables": [{"key": "EMAIL", "type": "string"}]}, "/variables/0/key"),
    ({"variables": [{"key": f"{MARK} é", "type": "string"}]}, "/variables/0/key"),
    ({"variables": [{"key": "A", "type": "list", "fallback_value": "x"}]}, "/variables/0/type"),
    ({"variables": [{"key": "A", "type": "number", "fallback_value": MARK}]}, "/variables/0/fallback_value"),
    ({"variables": [{"key": "A", "type": "string"}] * 2}, "/variables"),
    ({"variables": [{"key": f"A{number}", "type": "string"} for number in range(51)]}, "/variables"),
    ({"variables": [{"key": "A", "type": "string", "fallback_value": {}}]}, "/variables/0/fallback_value"),
    ({"unknown": MARK}, "/unknown"),
]


@pytest.mark.parametrize(("changes", "pointer"), INVALID, ids=[f"{p} {n}" for n, (_, p) in enumerate(INVALID)])
async def test_what_is_wrong_with_a_template_is_named_by_its_place(
    acme: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = await acme.post("/v1/templates", json={**ORDER, **changes})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert MARK not in answer.text
    if changes.get("html", "") is not None:
        await make(acme)
        changed = await acme.patch("/v1/templates/order", json=changes)
        assert changed.json()["errors"][0]["pointer"] == pointer


async def test_a_template_over_256_kib_is_too_large(acme: httpx.AsyncClient) -> None:
    answer = await acme.post("/v1/templates", json={**ORDER, "html": "x" * 262_144})
    assert answer.status_code == 413


async def test_a_change_may_take_fields_and_the_alias_away(acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    fields = {"alias": None, "from": None, "reply_to": None, "name": "Another"}
    await acme.patch("/v1/templates/order", json=fields)
    read = (await acme.get(f"/v1/templates/{template_id}")).json()
    assert {name: read[name] for name in fields} == fields
    assert (await acme.get("/v1/templates/order")).status_code == 404


async def test_an_alias_that_is_taken_is_a_conflict(acme: httpx.AsyncClient) -> None:
    await make(acme)
    assert (await acme.post("/v1/templates", json=ORDER)).status_code == 409
    other = await make(acme, alias=None)
    assert (await acme.patch(f"/v1/templates/{other}", json={"alias": "order"})).status_code == 409


async def test_a_tenant_has_a_thousand_templates_at_most(api: Served, acme: httpx.AsyncClient) -> None:
    await api.db.execute(
        "INSERT INTO template (tenant_id, template_id, name, current_version_id)"
        " SELECT $1, gen_random_uuid(), 'x', gen_random_uuid() FROM generate_series(1, 999)",
        api.acme,
    )
    await make(acme, is_published=False)
    full = await acme.post("/v1/templates", json={**ORDER, "alias": None})
    assert (full.status_code, full.json()["name"]) == (409, "conflict")
    assert (await acme.post("/v1/templates/order/duplicate")).status_code == 409


async def test_changes_at_the_same_time_are_all_kept_or_refused(acme: httpx.AsyncClient) -> None:
    await make(acme)
    changes: list[dict[str, Any]] = [
        {"subject": "S"}, {"text": "T"}, {"from": "f@acme.example"}, {"name": "N"}, {"html": "H"}, {"reply_to": "r@acme.example"}
    ]  # fmt: skip
    answers = await asyncio.gather(*(acme.patch("/v1/templates/order", json=change) for change in changes))
    assert {answer.status_code for answer in answers} <= {200, 409}
    read = (await acme.get("/v1/templates/order")).json()
    read["reply_to"] = ",".join(read["reply_to"])
    for change, answer in zip(changes, answers, strict=True):
        if answer.status_code == 200:
            ((name, value),) = change.items()
            assert read[name] == value


async def test_what_a_template_says_is_sealed_for_its_version(api: Served, acme: httpx.AsyncClient) -> None:
    template_id = await make(acme)
    row = await api.db.fetch_one("SELECT * FROM template_version WHERE template_id = $1", UUID(template_id))
    assert row is not None
    opened = await api.context.keyring.open(api.acme, "template.content", row["version_id"], row["sealed_content"])
    content = msgspec.msgpack.decode(opened, type=Template)
    assert content.html == ORDER["html"]
    assert content.variables == (Variable("NAME", "string", "you"), Variable("NUMBER", "number"))
