"""What an event says, with and without personal data."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from email_gateway.mail.content import Address, Content
from email_gateway.mail.webhooks import WORDS
from email_gateway.store.webhook_deliveries import DueDelivery
from email_gateway.webhooks.payloads import make_payload

AT = datetime(2026, 11, 30, 8, 0, 0, 5000, UTC)
DUE = DueDelivery(
    delivery_id=UUID(int=1),
    message_id=UUID(int=2),
    kind="delivered",
    happened_at=AT,
    attempts=0,
    created_at=AT,
    now=AT,
    event_id=UUID(int=3),
    recipient=1,
    reason="accepted",
    code=250,
    enhanced="2.0.0",
    sealed_reply=None,
    message_created_at=AT,
    sealed_content=None,
    sealed_summary=None,
    tag_names=("kind",),
    tag_values=("invoice",),
)
CONTENT = Content(
    sender=Address("billing@acme.example", "Acme (Billing)"),
    envelope=("maria@example.net", "jose@example.net"),
    subject="Your invoice",
)


def read(due: DueDelivery, content: Content | None = None, reply: str | None = None) -> Any:
    return json.loads(make_payload(due, content, reply))


@pytest.mark.parametrize("kind", WORDS)
def test_every_kind_has_resends_word_and_nothing_personal_unless_it_is_given(kind: str) -> None:
    event = read(replace(DUE, kind=kind, reason="mailbox_unknown"))
    assert event["type"] == WORDS[kind]
    assert event["created_at"] == "2026-11-30T08:00:00.005000Z"
    data = event["data"]
    assert (data["email_id"], data["tags"]) == (str(UUID(int=2)), {"kind": "invoice"})
    assert not {"from", "to", "subject"} & data.keys()
    assert "example" not in json.dumps(event)


def test_personal_data_stands_in_it_where_it_is_given() -> None:
    data = read(DUE, CONTENT)["data"]
    assert data["from"] == '"Acme (Billing)" <billing@acme.example>'
    assert (data["to"], data["subject"]) == (["jose@example.net"], "Your invoice")
    assert read(replace(DUE, recipient=None), CONTENT)["data"]["to"] == list(CONTENT.envelope)


@pytest.mark.parametrize(
    ("enhanced", "subtype"),
    [("5.1.1", "NoEmail"), ("5.2.2", "MailboxFull"), ("5.3.4", "MessageTooLarge"), ("5.7.1", "ContentRejected"), ("5.0.0", "General"), (None, "General")],
)  # fmt: skip
def test_a_bounce_says_why(enhanced: str | None, subtype: str) -> None:
    due = replace(DUE, kind="bounced", code=550, enhanced=enhanced, reason="mailbox_unknown")
    bounce = read(due)["data"]["bounce"]
    assert (bounce["type"], bounce["subType"]) == ("Permanent", subtype)
    assert bounce["message"] == f"550 {enhanced}" if enhanced else "550"
    with_reply = read(due, CONTENT, "<jose@example.net> is unknown")["data"]["bounce"]
    assert with_reply["diagnosticCode"][0].endswith("<jose@example.net> is unknown")
    assert read(replace(due, code=None, enhanced=None))["data"]["bounce"]["message"] == "mailbox_unknown"


def test_a_failure_says_its_reason() -> None:
    assert read(replace(DUE, kind="dead", reason="in_doubt"))["data"]["failed"] == {"reason": "in_doubt"}
    assert read(replace(DUE, kind="expired", reason=None))["data"]["failed"] == {"reason": "expired"}


def test_a_test_says_that_it_is_one() -> None:
    event = read(replace(DUE, kind="test"))
    assert (event["type"], event["data"]) == ("webhook.test", {"id": str(UUID(int=1))})
