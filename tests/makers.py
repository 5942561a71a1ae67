"""Rows for tests that need mail in the database and no HTTP: sealed bytes of the right shape."""

import os
import uuid
from dataclasses import replace
from datetime import timedelta

from uuid_utils.compat import uuid7

from email_gateway.store.accepting import NewMessage, NewRequest

SEALED = b"\xe1" + os.urandom(120)
INDEX_KEY = bytes(16)


def new_message(**changes: object) -> NewMessage:
    """A message to one recipient at example.net."""
    message = NewMessage(
        message_id=uuid7(),
        sealed_content=SEALED,
        sealed_tax_id=None,
        size=63,
        sender_domain="example.com",
        domains=("example.net",),
        on_doubt="resend",
        lifetime=timedelta(days=4),
        dead_at_expiry=True,
    )
    return replace(message, **changes)  # type: ignore[arg-type]


def new_request(tenant_id: uuid.UUID, *messages: NewMessage, **changes: object) -> NewRequest:
    """A request of these messages, or of one; `key_hmac` and `fingerprint` are those under one index key."""
    if key_hmac := changes.pop("key_hmac", None):
        changes["idempotency"] = ((key_hmac, changes.pop("fingerprint")),)
    request = NewRequest(tenant_id, messages or (new_message(),), response=b'{"id":"x"}')
    return replace(request, **changes)  # type: ignore[arg-type]
