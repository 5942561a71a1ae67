"""What an event says to a caller's server, in Resend's words: the body that is signed and sent.

The tax id never stands in it. Sender, recipients, subject and a server's reply stand in it only where the webhook
asks for them (`content` and `reply` are given then).
"""

from typing import Any

import msgspec

from email_gateway.mail.addresses import show_address
from email_gateway.mail.content import Content
from email_gateway.mail.webhooks import TEST_EVENT, WORDS
from email_gateway.store.webhook_deliveries import DueDelivery

# RFC 3463 to the words of Resend, which are those of Amazon SES.
_SUBTYPES = {
    "1.1": "NoEmail",
    "1.2": "NoEmail",
    "1.10": "NoEmail",
    "2.2": "MailboxFull",
    "2.3": "MessageTooLarge",
    "3.4": "MessageTooLarge",
    "6.1": "ContentRejected",
    "7.1": "ContentRejected",
}
_ENCODE = msgspec.json.Encoder().encode


def make_payload(due: DueDelivery, content: Content | None, reply: str | None) -> bytes:
    """Return the body of an event as JSON."""
    if due.kind not in WORDS:
        return _ENCODE({"type": TEST_EVENT, "created_at": due.happened_at, "data": {"id": due.delivery_id}})
    word = WORDS[due.kind]
    data: dict[str, Any] = {
        "email_id": due.message_id,
        "created_at": due.message_created_at or due.created_at,
        "tags": dict(zip(due.tag_names, due.tag_values, strict=True)),
    }
    if content is not None:
        data |= {"from": show_address(content.sender), "to": _recipients(due, content), "subject": content.subject}
    if word == "email.bounced":
        data["bounce"] = _bounce(due, reply)
    elif word == "email.failed":
        data["failed"] = {"reason": due.reason or due.kind}
    return _ENCODE({"type": word, "created_at": due.happened_at, "data": data})


def _recipients(due: DueDelivery, content: Content) -> list[str]:
    """Return the one recipient that the event is about, or all where it is about the message."""
    return list(content.envelope) if due.recipient is None else [content.envelope[due.recipient]]


def _bounce(due: DueDelivery, reply: str | None) -> dict[str, Any]:
    said = " ".join(str(part) for part in (due.code, due.enhanced, reply) if part)
    subtype = _SUBTYPES.get((due.enhanced or "").partition(".")[2], "General")
    return {
        "message": said or due.reason or "",
        "type": "Permanent",
        "subType": subtype,
        "diagnosticCode": [f"smtp; {said}"] if said else [],
    }
