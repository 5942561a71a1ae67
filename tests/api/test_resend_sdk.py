"""Resend's own Python SDK, with one URL changed."""

import asyncio

import pytest
import resend
from resend.exceptions import ResendError

from tests.api.house import Served

pytestmark = pytest.mark.anyio

PARAMS: resend.Emails.SendParams = {
    "from": "Acme <billing@acme.example>",
    "to": ["maria@example.net"],
    "subject": "Your invoice",
    "html": "<p>Attached.",
}


@pytest.fixture(autouse=True)
def sdk(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_url", f"{shared.url}/v1")
    monkeypatch.setattr(resend, "api_key", shared.acme_key)


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


async def test_the_asynchronous_client_works_too() -> None:
    sent = await resend.Emails.send_async(PARAMS)
    assert (await resend.Emails.get_async(sent["id"]))["id"] == sent["id"]
