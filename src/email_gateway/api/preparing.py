"""From a body to what is stored: decoded, checked, sealed. No I/O; any thread or process may run it."""

from dataclasses import replace
from operator import itemgetter
from typing import Literal

import msgspec

from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.intake import Draft, draft, seal
from email_gateway.api.problems import describe
from email_gateway.api.rendering import rendered, require_templates
from email_gateway.api.schemas import MAX_BATCH, BatchAccepted, BatchFault, EmailBatch, EmailId, RawBatch, SendEmail
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.templates import Template
from email_gateway.store.accepting import NewMessage, NewRequest
from email_gateway.vault.tenant_keys import TenantKeys

_EMAIL = BodyDecoder[SendEmail](SendEmail)
_BATCH = BodyDecoder[list[SendEmail] | EmailBatch](list[SendEmail] | EmailBatch)
_RAW_BATCH = BodyDecoder[list[msgspec.Raw] | RawBatch](list[msgspec.Raw] | RawBatch)
_ENCODE = msgspec.json.Encoder().encode

Prepared = tuple[list[NewMessage], bytes]
Templates = dict[str, Template] | None


class Order(msgspec.Struct, frozen=True):
    """How a body is to be read: as one message, as a batch of all or none, or as a batch of which the good ones count.

    `traceparent` is the trace that its messages belong to.
    `templates` holds those that the body names, by the names that it gives them; None while nobody has looked.
    """

    kind: Literal["one", "strict", "permissive"]
    headers: dict[bytes, bytes]
    idempotency_key: bytes | None
    traceparent: str | None = None
    templates: dict[str, Template] | None = None

    def __repr__(self) -> str:
        return f"Order({self.kind})"


def prepare(order: Order, keys: TenantKeys, body: bytes | bytearray) -> NewRequest:
    """Return what is stored of a request; raises InvalidRequest, UnsupportedMediaType or TemplatesNeeded."""
    check_json(order.headers, body)
    messages, response = _KINDS[order.kind](keys, body, order.templates)
    key = order.idempotency_key
    return NewRequest(
        tenant_id=keys.tenant_id,
        messages=tuple(
            replace(message, traceparent=order.traceparent) if order.traceparent else message for message in messages
        ),
        response=response,
        idempotency=keys.idempotency_keys(key, body) if key is not None else (),
    )


def _prepare_one(keys: TenantKeys, body: bytes | bytearray, templates: Templates) -> Prepared:
    email = _EMAIL.decode(body)
    require_templates((email,), templates)
    message = seal(draft(rendered(email, templates, "")), keys)
    return [message], b'{"id":"%s"}' % str(message.message_id).encode()


def _prepare_strict(keys: TenantKeys, body: bytes | bytearray, templates: Templates) -> Prepared:
    decoded = _BATCH.decode(body)
    at, emails = ("", decoded) if isinstance(decoded, list) else ("/emails", decoded.emails)
    _check_count(len(emails), at)
    require_templates(emails, templates)
    drafts: list[Draft] = []
    faults: list[Fault] = []
    for index, email in enumerate(emails):
        place = f"{at}/{index}"
        try:
            drafts.append(draft(rendered(email, templates, place), place))
        except InvalidRequest as invalid:
            faults += invalid.faults
    if faults:
        raise InvalidRequest("the batch is not valid", tuple(faults))
    return _seal_all(drafts, keys, [])


def _prepare_permissive(keys: TenantKeys, body: bytes | bytearray, templates: Templates) -> Prepared:
    decoded = _RAW_BATCH.decode(body)
    at, raws = ("", decoded) if isinstance(decoded, list) else ("/emails", decoded.emails)
    _check_count(len(raws), at)
    emails: list[tuple[int, SendEmail]] = []
    drafts: list[Draft] = []
    refused: list[tuple[int, tuple[Fault, ...]]] = []
    for index, raw in enumerate(raws):
        try:
            emails.append((index, _EMAIL.decode(raw)))
        except InvalidRequest as invalid:
            refused.append((index, invalid.faults))
    require_templates((email for _, email in emails), templates)
    for index, email in emails:
        try:
            drafts.append(draft(rendered(email, templates, "")))
        except InvalidRequest as invalid:
            refused.append((index, invalid.faults))
    refused.sort(key=itemgetter(0))
    if not drafts:  # a 2xx says that something was stored
        raise InvalidRequest(
            "no message of the batch is valid",
            tuple(
                replace(fault, pointer=f"{at}/{index}{fault.pointer}") for index, faults in refused for fault in faults
            ),
        )
    return _seal_all(drafts, keys, [BatchFault(index, describe(faults)) for index, faults in refused])


def _seal_all(drafts: list[Draft], keys: TenantKeys, errors: list[BatchFault]) -> Prepared:
    messages = [seal(checked, keys) for checked in drafts]
    return messages, _ENCODE(BatchAccepted([EmailId(str(message.message_id)) for message in messages], errors))


def _check_count(count: int, at: str) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise InvalidRequest("the batch is not valid", (Fault(at, f"give between 1 and {MAX_BATCH} messages"),))


_KINDS = {"one": _prepare_one, "strict": _prepare_strict, "permissive": _prepare_permissive}
