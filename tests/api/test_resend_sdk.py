"""Resend's own SDKs for Python and Node, with one URL changed."""

import asyncio
import json
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import MissingRequiredFieldsError, ResendError, ValidationError

from email_gateway.mail.webhooks import new_secret, sign
from tests.api.house import Served
from tests.node import run_node

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk")]

PARAMS: resend.Emails.SendParams = {
    "from": "Acme <billing@acme.example>",
    "to": ["maria@example.net"],
    "subject": "Your invoice",
    "html": "<p>Attached.",
}


async def test_a_message_is_sent_and_read_back() -> None:
    sent = await asyncio.to_thread(
        resend.Emails.send,
        {
            **PARAMS,
            "reply_to": "r@acme.example",
            "headers": {"X-Entity-Ref-ID": "1"},
            "tags": [{"name": "kind", "value": "invoice"}],
            "attachments": [{"filename": "a.pdf", "content": list(b"%PDF")}],
        },
    )
    read = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert (read["subject"], read["html"], read["last_event"]) == ("Your invoice", "<p>Attached.", "queued")
    listed = await asyncio.to_thread(resend.Emails.list, {"limit": 5})
    assert sent["id"] in [one["id"] for one in listed["data"]]


async def test_an_address_beyond_ascii_is_taken_in_every_field_and_shown_and_found(shared: Served) -> None:
    sent = await asyncio.to_thread(
        resend.Emails.send,
        {**PARAMS, "to": ["José <josé@bücher.example>"], "cc": "用户@example.net", "reply_to": ["ação@acme.example"]},
    )
    read = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert read["to"] == ["José <josé@xn--bcher-kva.example>"]
    assert (read["cc"], read["reply_to"]) == (["用户@example.net"], ["ação@acme.example"])
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {shared.acme_key}"}) as client:
        found = await client.post(f"{shared.url}/v1/emails/search", json={"address": "JOSE\u0301@bücher.example"})
    assert [one["id"] for one in found.json()["data"]] == [sent["id"]]


@pytest.mark.parametrize("name", ["Acme (Billing)", "Silva, Ana", 'Ana "Nina" Silva', "Acme: Billing"])
async def test_a_name_is_taken_as_it_stands_and_shown_in_a_form_that_can_be_sent_again(name: str) -> None:
    sent = await asyncio.to_thread(resend.Emails.send, {**PARAMS, "from": f"{name} <a@acme.example>"})
    shown = (await asyncio.to_thread(resend.Emails.get, sent["id"]))["from"]
    again = await asyncio.to_thread(resend.Emails.send, {**PARAMS, "from": shown})
    assert (await asyncio.to_thread(resend.Emails.get, again["id"]))["from"] == shown
    assert parseaddr(shown) == (name, "a@acme.example")


async def test_a_batch_is_sent_strictly_and_permissively() -> None:
    sent = await asyncio.to_thread(resend.Batch.send, [PARAMS, PARAMS])
    assert len(sent["data"]) == 2
    bad: resend.Emails.SendParams = {**PARAMS, "to": "nowhere"}
    with pytest.raises(ResendError) as refused:
        await asyncio.to_thread(resend.Batch.send, [PARAMS, bad])
    assert refused.value.error_type == "validation_error"
    partly = await asyncio.to_thread(resend.Batch.send, [PARAMS, bad], {"batch_validation": "permissive"})
    assert len(partly["data"]) == 1
    assert partly["errors"][0]["index"] == 1


async def test_a_batch_of_a_thousand_is_sent_at_once() -> None:
    sent = await asyncio.to_thread(resend.Batch.send, [PARAMS] * 1000)
    assert len({one["id"] for one in sent["data"]}) == 1000


async def test_an_idempotency_key_repeats_the_first_answer() -> None:
    options: resend.Emails.SendOptions = {"idempotency_key": "sdk-1"}
    first = await asyncio.to_thread(resend.Emails.send, PARAMS, options)
    again = await asyncio.to_thread(resend.Emails.send, PARAMS, options)
    assert first["id"] == again["id"]
    assert again["http_headers"]["idempotency-replayed"] == "true"


async def test_the_sdks_errors_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResendError) as invalid:
        await asyncio.to_thread(resend.Emails.send, {**PARAMS, "to": "nowhere"})
    assert (invalid.value.code, invalid.value.error_type) == (422, "validation_error")
    assert "/to" in str(invalid.value)
    monkeypatch.setattr(resend, "api_key", "re_123")
    with pytest.raises(ResendError) as forbidden:
        await asyncio.to_thread(resend.Emails.send, PARAMS)
    assert (forbidden.value.code, forbidden.value.error_type) == (403, "invalid_api_key")


@pytest.mark.parametrize("missing", ["from", "to", "subject", "html"])
async def test_a_missing_field_is_the_sdks_own_error(missing: str) -> None:
    params: Any = {name: value for name, value in PARAMS.items() if name != missing}
    with pytest.raises(MissingRequiredFieldsError) as refused:
        await asyncio.to_thread(resend.Emails.send, params)
    assert refused.value.error_type == "missing_required_field"
    with pytest.raises(MissingRequiredFieldsError):
        await asyncio.to_thread(resend.Batch.send, [PARAMS, params])
    with pytest.raises(MissingRequiredFieldsError):
        await asyncio.to_thread(resend.Batch.send, [params], {"batch_validation": "permissive"})


async def test_something_missing_beside_another_mistake_is_a_validation_error() -> None:
    params: Any = {**{name: value for name, value in PARAMS.items() if name != "html"}, "reply_to": "nowhere"}
    with pytest.raises(ValidationError):
        await asyncio.to_thread(resend.Emails.send, params)


async def test_a_missing_body_of_a_large_message_is_the_sdks_own_error() -> None:
    big = {"filename": "a.bin", "content": "A" * 2_000_000}
    params: Any = {name: value for name, value in PARAMS.items() if name != "html"}
    params["attachments"] = [big]
    with pytest.raises(MissingRequiredFieldsError):
        await asyncio.to_thread(resend.Emails.send, params)


async def test_the_asynchronous_client_works_too() -> None:
    sent = await resend.Emails.send_async(PARAMS)
    assert (await resend.Emails.get_async(sent["id"]))["id"] == sent["id"]


ORDER: resend.Templates.CreateParams = {
    "name": "Order",
    "from": "Acme <orders@acme.example>",
    "subject": "Order {{{NUMBER}}}",
    "html": "<p>Hello {{{NAME}}}, this is order {{{NUMBER}}}.",
    "variables": [
        {"key": "NAME", "type": "string", "fallback_value": "you"},
        {"key": "NUMBER", "type": "number"},
    ],
}


def by_template(name: str, **variables: str | int) -> Any:
    """A message by a template, with a sender of its own."""
    message = {"from": "a@acme.example", "to": "maria@example.net"}
    return {**message, "template": {"id": name, "variables": variables}}


async def test_a_template_is_made_changed_published_sent_copied_and_removed() -> None:
    created = await asyncio.to_thread(resend.Templates.create, ORDER)
    await asyncio.to_thread(resend.Templates.update, {"id": created["id"], "alias": "sdk-order"})
    await asyncio.to_thread(resend.Templates.publish, created["id"])
    read = await asyncio.to_thread(resend.Templates.get, "sdk-order")
    assert (read["id"], read["status"], read["subject"]) == (created["id"], "published", ORDER["subject"])
    assert read["variables"][0]["fallback_value"] == "you"
    listed = await asyncio.to_thread(resend.Templates.list, {"limit": 100})
    assert created["id"] in [one["id"] for one in listed["data"]]
    message = by_template("sdk-order", NUMBER=5, NAME="<Ana>")
    sent = await asyncio.to_thread(resend.Emails.send, message)
    email = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert (email["subject"], email["html"]) == ("Order 5", "<p>Hello &lt;Ana&gt;, this is order 5.")
    batch = await asyncio.to_thread(resend.Batch.send, [message, PARAMS])
    assert len(batch["data"]) == 2
    copy = await asyncio.to_thread(resend.Templates.duplicate, created["id"])
    for template_id in (copy["id"], created["id"]):
        assert (await asyncio.to_thread(resend.Templates.remove, template_id))["deleted"] is True
    with pytest.raises(ResendError) as gone:
        await asyncio.to_thread(resend.Templates.get, created["id"])
    assert (gone.value.code, gone.value.error_type) == (404, "not_found")


async def test_a_missing_variable_is_the_sdks_own_error_and_is_named() -> None:
    created = await asyncio.to_thread(resend.Templates.create, ORDER)
    await asyncio.to_thread(resend.Templates.publish, created["id"])
    with pytest.raises(ValidationError) as refused:
        await asyncio.to_thread(resend.Emails.send, by_template(created["id"]))
    assert "NUMBER" in str(refused.value)
    wrong: Any = {**ORDER, "html": "{{{UNKNOWN}}}"}
    with pytest.raises(ValidationError):
        await asyncio.to_thread(resend.Templates.create, wrong)
    nameless: Any = {"html": "x"}
    with pytest.raises(MissingRequiredFieldsError):
        await asyncio.to_thread(resend.Templates.create, nameless)


async def test_the_asynchronous_client_works_with_templates_too() -> None:
    created = await resend.Templates.create_async(ORDER)
    template_id = created["id"]
    await resend.Templates.update_async({"id": template_id, "name": "Renamed"})
    await resend.Templates.publish_async(template_id)
    assert (await resend.Templates.get_async(template_id))["name"] == "Renamed"
    assert template_id in [one["id"] for one in (await resend.Templates.list_async())["data"]]
    sent = await resend.Emails.send_async(by_template(template_id, NUMBER=6))
    assert (await resend.Emails.get_async(sent["id"]))["subject"] == "Order 6"
    copy = await resend.Templates.duplicate_async(template_id)
    assert (await resend.Templates.remove_async(copy["id"]))["deleted"] is True


async def test_a_webhook_is_made_read_changed_rotated_and_removed() -> None:
    hook: resend.Webhooks.CreateParams = {"endpoint": "https://hooks.example.com/in", "events": ["email.delivered"]}
    made = await asyncio.to_thread(resend.Webhooks.create, hook)
    await asyncio.to_thread(resend.Webhooks.update, {"webhook_id": made["id"], "status": "disabled"})
    read = await asyncio.to_thread(resend.Webhooks.get, made["id"])
    assert (read["status"], read["signing_secret"]) == ("disabled", made["signing_secret"])
    listed = await asyncio.to_thread(resend.Webhooks.list, {"limit": 100})
    assert made["id"] in [one["id"] for one in listed["data"]]
    rotated = await asyncio.to_thread(resend.Webhooks.rotate_signing_secret, made["id"])
    assert rotated["signing_secret"].startswith("whsec_")
    assert (await asyncio.to_thread(resend.Webhooks.remove, made["id"]))["deleted"] is True
    with pytest.raises(ResendError) as gone:
        await asyncio.to_thread(resend.Webhooks.get, made["id"])
    assert gone.value.code == 404
    with pytest.raises(ValidationError):
        await asyncio.to_thread(resend.Webhooks.create, {**hook, "events": ["email.opened"]})


async def test_the_asynchronous_client_works_with_webhooks_too() -> None:
    hook: resend.Webhooks.CreateParams = {"endpoint": "https://hooks.example.com/in", "events": ["email.delivered"]}
    webhook_id = (await resend.Webhooks.create_async(hook))["id"]
    await resend.Webhooks.update_async({"webhook_id": webhook_id, "events": ["email.sent"]})
    assert (await resend.Webhooks.get_async(webhook_id))["events"] == ["email.sent"]
    assert webhook_id in [one["id"] for one in (await resend.Webhooks.list_async())["data"]]
    assert (await resend.Webhooks.remove_async(webhook_id))["deleted"] is True


@pytest.mark.needs("node", "npm")
async def test_the_sdk_for_node_works_with_templates(shared: Served) -> None:
    answers = await run_node(
        """
        const created = await resend.templates.create({
          name: 'Node order', subject: 'Order {{{NUMBER}}}', html: '<p>Hello {{{NAME}}}</p>', from: 'a@acme.example',
          variables: [{ key: 'NAME', type: 'string', fallbackValue: 'you' }, { key: 'NUMBER', type: 'number' }],
        }).publish();
        const id = created.data.id;
        const updated = await resend.templates.update(id, { name: 'Renamed' });
        const read = await resend.templates.get(id);
        const listed = await resend.templates.list({ limit: 100 });
        const by = (variables) => ({ to: 'maria@example.net', from: 'a@acme.example', template: { id, variables } });
        const sent = await resend.emails.send(by({ NUMBER: 7 }));
        const email = await resend.emails.get(sent.data.id);
        const missing = await resend.emails.send(by({}));
        const copied = await resend.templates.duplicate(id);
        const removed = await resend.templates.remove(copied.data.id);
        const gone = await resend.templates.get(copied.data.id);
        return { created, updated, read, listed, sent, email, missing, removed, gone };
        """,
        url=shared.url,
        api_key=shared.acme_key,
    )
    assert answers["updated"]["error"] is None
    assert (answers["read"]["data"]["name"], answers["read"]["data"]["status"]) == ("Renamed", "published")
    assert answers["read"]["data"]["variables"][0]["fallback_value"] == "you"
    assert answers["created"]["data"]["id"] in [one["id"] for one in answers["listed"]["data"]["data"]]
    assert (answers["email"]["data"]["subject"], answers["email"]["data"]["html"]) == ("Order 7", "<p>Hello you</p>")
    assert answers["missing"]["error"]["name"] == "validation_error"
    assert "NUMBER" in answers["missing"]["error"]["message"]
    assert answers["removed"]["data"]["deleted"] is True
    assert answers["gone"]["error"]["name"] == "not_found"


@pytest.mark.needs("node", "npm")
async def test_the_sdk_for_node_works_with_webhooks_and_verifies_what_is_signed(shared: Served) -> None:
    secret, body = new_secret(), b'{"type":"email.sent"}'
    headers = sign(body, "an-id", datetime.now(UTC), [new_secret(), secret])
    known = {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    answers = await run_node(
        f"""
        const events = ['email.delivered'];
        const made = await resend.webhooks.create({{ endpoint: 'https://hooks.example.com/in', events }});
        const updated = await resend.webhooks.update(made.data.id, {{ status: 'disabled' }});
        const read = await resend.webhooks.get(made.data.id);
        const listed = await resend.webhooks.list({{ limit: 100 }});
        const removed = await resend.webhooks.remove(made.data.id);
        const refused = await resend.webhooks.create({{ endpoint: 'http://hooks.example.com/in', events }});
        const payload = {json.dumps(body.decode())}, headers = {json.dumps(known)};
        const verified = resend.webhooks.verify({{ payload, headers, webhookSecret: '{secret}' }});
        let forged;
        try {{
          resend.webhooks.verify({{ payload: payload + ' ', headers, webhookSecret: '{secret}' }});
        }} catch (error) {{ forged = error.name }}
        return {{ made, updated, read, listed, removed, refused, verified, forged }};
        """,
        url=shared.url,
        api_key=shared.acme_key,
    )
    assert answers["updated"]["error"] is None
    assert answers["read"]["data"]["status"] == "disabled"
    assert answers["read"]["data"]["signing_secret"] == answers["made"]["data"]["signing_secret"]
    assert answers["made"]["data"]["id"] in [one["id"] for one in answers["listed"]["data"]["data"]]
    assert answers["removed"]["data"]["deleted"] is True
    assert answers["refused"]["error"]["name"] == "validation_error"
    assert answers["verified"] == {"type": "email.sent"}
    assert answers["forged"] == "WebhookVerificationError"
