"""/v1/suppressions: the addresses that a tenant wants no mail sent to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from email_gateway.api.calls import Call, Reply, find_uuid, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.schemas import (
    AddSuppression,
    AddSuppressions,
    RemoveSuppressions,
    SuppressionId,
    SuppressionIds,
    SuppressionItem,
    SuppressionList,
    SuppressionRemoved,
    SuppressionsRemoved,
    SuppressionView,
)
from email_gateway.errors import Fault, InvalidRequest, NotFound
from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue
from email_gateway.store.suppressions import Reason
from email_gateway.suppressions import Entry, Suppression, Suppressions

_ADD = BodyDecoder[AddSuppression](AddSuppression)
_ADD_MANY = BodyDecoder[AddSuppressions](AddSuppressions)
_REMOVE_MANY = BodyDecoder[RemoveSuppressions](RemoveSuppressions)
_ENCODE = msgspec.json.Encoder().encode

NOT_VALID = "the request is not valid"
# Resend has three words; an unsubscribe is one that somebody asked for, as by hand.
ORIGINS = {
    "bounce": (Reason.BOUNCE,),
    "complaint": (Reason.COMPLAINT,),
    "manual": (Reason.MANUAL, Reason.UNSUBSCRIBE),
}
ORIGIN_OF = {reason: origin for origin, reasons in ORIGINS.items() for reason in reasons}


async def add_suppression(context: ApiContext, call: Call) -> Reply:
    """Suppress an address. One that is suppressed already keeps its id, for the longer of both times."""
    wanted = _ADD.decode(await _read(call))
    _check_addresses({"/email": wanted.email})
    if wanted.note is not None and UNSAFE_IN_NAMES.search(wanted.note):
        raise InvalidRequest(NOT_VALID, (Fault("/note", "use a line of text without control characters"),))
    if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
        raise InvalidRequest(NOT_VALID, (Fault("/expires_at", "use a moment that lies ahead"),))
    reason = Reason(wanted.reason) if wanted.reason else Reason.MANUAL
    entry = Entry(wanted.email, reason, wanted.source_id, wanted.note, wanted.expires_at)
    ((suppression_id, _),) = await _list_of(context).add(call.tenant_id, [entry])
    return Reply(201, _ENCODE(SuppressionId(str(suppression_id))))


async def add_suppressions(context: ApiContext, call: Call) -> Reply:
    """Suppress up to 100 addresses, all or none."""
    emails = _ADD_MANY.decode(await _read(call)).emails
    _check_addresses({f"/emails/{index}": email for index, email in enumerate(emails)})
    added = await _list_of(context).add(call.tenant_id, [Entry(email) for email in emails])
    ids = dict.fromkeys(str(suppression_id) for suppression_id, _ in added)
    return Reply(201, _ENCODE(SuppressionIds([SuppressionId(one) for one in ids])))


async def remove_suppressions(context: ApiContext, call: Call) -> Reply:
    """End up to 100 suppressions, by address or by id; the answer names those that there were."""
    wanted = _REMOVE_MANY.decode(await _read(call))
    if (wanted.emails is None) == (wanted.ids is None):
        raise InvalidRequest(NOT_VALID, (Fault("", "give emails or ids, and not both"),))
    suppressions = _list_of(context)
    if wanted.emails is not None:
        _check_addresses({f"/emails/{index}": email for index, email in enumerate(wanted.emails)})
        found: Sequence[UUID | None] = await suppressions.find_ids(call.tenant_id, wanted.emails)
    else:
        found = [find_uuid(text) for text in wanted.ids or ()]
    removed = await suppressions.remove(call.tenant_id, [one for one in found if one is not None])
    return Reply(200, _ENCODE(SuppressionsRemoved([SuppressionRemoved(str(one)) for one in removed])))


async def list_suppressions(context: ApiContext, call: Call) -> Reply:
    """Return a page of the suppressions in force, newest first."""
    query = call.query()
    origin = query.get("origin")
    if origin is not None and origin not in ORIGINS:
        raise InvalidRequest("the query is not valid", (Fault("/origin", f"use one of {', '.join(ORIGINS)}"),))
    reasons = tuple(Reason) if origin is None else ORIGINS[origin]
    found, has_more = await _list_of(context).list_page(call.tenant_id, parse_page(query), reasons)
    return Reply(200, _ENCODE(SuppressionList(has_more, [SuppressionItem(**_shown(one)) for one in found])))


async def get_suppression(context: ApiContext, call: Call) -> Reply:
    """Return one suppression, by its id or by the address."""
    found = await _list_of(context).get(call.tenant_id, await _get_id(context, call))
    return Reply(200, _ENCODE(SuppressionView(**_shown(found))))


async def remove_suppression(context: ApiContext, call: Call) -> Reply:
    """End one suppression, by its id or by the address; mail to it is accepted and sent again."""
    suppression_id = await _get_id(context, call)
    if not await _list_of(context).remove(call.tenant_id, [suppression_id]):
        raise NotFound("no such suppression")
    return Reply(200, _ENCODE(SuppressionRemoved(str(suppression_id))))


def _list_of(context: ApiContext) -> Suppressions:
    return Suppressions(context.db, context.keyring)


async def _read(call: Call) -> bytes | bytearray:
    body = await call.read_small_body()
    check_json(call.headers, body)
    return body


async def _get_id(context: ApiContext, call: Call) -> UUID:
    """Return the id that the path names, itself or by an address; raises NotFound for what is neither."""
    text = call.params["suppression"]
    if (suppression_id := find_uuid(text)) is not None:
        return suppression_id
    try:
        (found,) = await _list_of(context).find_ids(call.tenant_id, [text])
    except InvalidValue:
        found = None
    if found is None:
        raise NotFound("no such suppression")
    return found


def _check_addresses(by_pointer: dict[str, str]) -> None:
    faults = []
    for pointer, address in by_pointer.items():
        try:
            canonical_address(address)
        except InvalidValue as error:
            faults.append(Fault(pointer, str(error)))
    if faults:
        raise InvalidRequest(NOT_VALID, tuple(faults))


def _shown(one: Suppression) -> dict[str, Any]:
    return {
        "id": str(one.suppression_id),
        "email": one.address,
        "origin": ORIGIN_OF[one.reason],
        "reason": one.reason.value,
        "source_id": str(one.source_id) if one.source_id else None,
        "note": one.note,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
    }
