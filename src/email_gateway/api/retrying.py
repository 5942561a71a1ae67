"""POST /v1/emails/{id}/retry: another day for what could not be delivered, at its caller's word."""

import msgspec

from email_gateway.api.calls import Call, Reply, parse_id
from email_gateway.api.context import ApiContext
from email_gateway.errors import NothingToRetry
from email_gateway.store.dead_letters import retry_message


class EmailRetried(msgspec.Struct, frozen=True):
    """How many deliveries of the message are queued for an attempt now."""

    id: str
    retried: int
    object: str = "email"


async def retry_email(context: ApiContext, call: Call) -> Reply:
    """Queue the dead deliveries of a message again, those in doubt too."""
    message_id = parse_id(call.params["email_id"], "email")
    retried = await retry_message(context.db, call.tenant_id, message_id, actor=call.api_key_actor)
    if not retried:
        raise NothingToRetry("no delivery of this email is dead: it is under way, or has ended for good")
    return Reply(200, msgspec.json.encode(EmailRetried(str(message_id), retried)))
