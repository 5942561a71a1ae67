"""PATCH /v1/emails/{id} and POST /v1/emails/{id}/cancel: changing one's mind about a message that is still to leave."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from email_gateway.api.calls import Call, Reply, parse_id
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.schemas import EmailReference, UpdateEmail
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.send_times import parse_send_time
from email_gateway.store.scheduled import cancel_scheduled, reschedule

_UPDATE = BodyDecoder[UpdateEmail](UpdateEmail)
_ENCODE = msgspec.json.Encoder().encode


async def update_email(context: ApiContext, call: Call) -> Reply:
    """Have a scheduled message leave at another time."""
    message_id = parse_id(call.params["email_id"], "email")
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _UPDATE.decode(body)
    if wanted.id is not None and wanted.id.lower() != str(message_id):
        raise InvalidRequest("the update is not valid", (Fault("/id", "leave it out, or send the id of the path"),))
    try:
        moment = parse_send_time(wanted.scheduled_at, datetime.now(UTC))
    except InvalidValue as error:
        raise InvalidRequest("the update is not valid", (Fault("/scheduled_at", str(error)),)) from None
    await reschedule(context.db, call.tenant_id, message_id, moment)
    return _reference(message_id)


async def cancel_email(context: ApiContext, call: Call) -> Reply:
    """Cancel a message that is still scheduled."""
    message_id = parse_id(call.params["email_id"], "email")
    await cancel_scheduled(context.db, call.tenant_id, message_id)
    return _reference(message_id)


def _reference(message_id: UUID) -> Reply:
    return Reply(200, _ENCODE(EmailReference(str(message_id))))
