"""POST /v1/emails and /v1/emails/batch: from a body to durable, sealed messages."""

import asyncio
import re
from collections.abc import Callable

import msgspec

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.intake import Draft, draft, seal
from email_gateway.api.problems import describe
from email_gateway.api.schemas import MAX_BATCH, BatchAccepted, BatchFault, EmailBatch, EmailId, RawBatch, SendEmail
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.observe import ACCEPTED
from email_gateway.store.messages import NewMessage, NewRequest
from email_gateway.vault.tenant_keys import TenantKeys

# Above this, decoding and sealing would hold up every other request of this process.
OFF_LOOP_BYTES = 64 * 1024
Prepare = Callable[[TenantKeys, bytes | bytearray], tuple[list[NewMessage], bytes]]
REPLAYED = ((b"idempotency-replayed", b"true"),)

_IDEMPOTENCY_KEY = re.compile(rb"[\x20-\x7e]{1,256}")
_EMAIL = BodyDecoder[SendEmail](SendEmail)
_BATCH = BodyDecoder[list[SendEmail] | EmailBatch](list[SendEmail] | EmailBatch)
_RAW_BATCH = BodyDecoder[list[msgspec.Raw] | RawBatch](list[msgspec.Raw] | RawBatch)
_ENCODE = msgspec.json.Encoder().encode


async def send_email(context: ApiContext, call: Call) -> Reply:
    """Accept one message."""
    return await _accept(context, call, _prepare_one)


async def send_batch(context: ApiContext, call: Call) -> Reply:
    """Accept up to 100 messages, all or none; with `x-batch-validation: permissive`, those that are valid."""
    mode = call.headers.get(b"x-batch-validation", b"strict").lower()
    if mode not in (b"strict", b"permissive"):
        raise InvalidRequest('send "strict" or "permissive" in x-batch-validation')
    return await _accept(context, call, _prepare_permissive if mode == b"permissive" else _prepare_strict)


async def _accept(context: ApiContext, call: Call, prepare: Prepare) -> Reply:
    key = _idempotency_key(call.headers)
    body = await call.read_body()
    keys = await context.keyring.tenant(call.tenant_id)
    with keys.uses:
        if len(body) <= OFF_LOOP_BYTES:
            request = _new_request(keys, call.headers, body, key, prepare)
            accepted = await context.acceptor.accept(request)
        else:
            async with call.budget.at_work:
                request = await asyncio.to_thread(_new_request, keys, call.headers, body, key, prepare)
                accepted = await context.acceptor.accept(request)
    if accepted.is_replay:
        return Reply(202, accepted.response, REPLAYED)
    ACCEPTED.inc(len(request.messages))
    return Reply(202, accepted.response)


def _new_request(
    keys: TenantKeys,
    headers: dict[bytes, bytes],
    body: bytes | bytearray,
    key: bytes | None,
    prepare: Prepare,
) -> NewRequest:
    check_json(headers, body)
    messages, response = prepare(keys, body)
    return NewRequest(
        tenant_id=keys.tenant_id,
        messages=tuple(messages),
        response=response,
        idempotency=keys.idempotency_keys(key, body) if key is not None else (),
    )


def _prepare_one(keys: TenantKeys, body: bytes | bytearray) -> tuple[list[NewMessage], bytes]:
    message = seal(draft(_EMAIL.decode(body)), keys)
    return [message], b'{"id":"%s"}' % str(message.message_id).encode()


def _prepare_strict(keys: TenantKeys, body: bytes | bytearray) -> tuple[list[NewMessage], bytes]:
    decoded = _BATCH.decode(body)
    at, emails = ("", decoded) if isinstance(decoded, list) else ("/emails", decoded.emails)
    _check_count(len(emails), at)
    drafts: list[Draft] = []
    faults: list[Fault] = []
    for index, email in enumerate(emails):
        try:
            drafts.append(draft(email, f"{at}/{index}"))
        except InvalidRequest as invalid:
            faults += invalid.faults
    if faults:
        raise InvalidRequest("the batch is not valid", tuple(faults))
    return _seal_all(drafts, keys, [])


def _prepare_permissive(keys: TenantKeys, body: bytes | bytearray) -> tuple[list[NewMessage], bytes]:
    decoded = _RAW_BATCH.decode(body)
    at, raws = ("", decoded) if isinstance(decoded, list) else ("/emails", decoded.emails)
    _check_count(len(raws), at)
    drafts: list[Draft] = []
    refused: list[tuple[int, tuple[Fault, ...]]] = []
    for index, raw in enumerate(raws):
        try:
            drafts.append(draft(_EMAIL.decode(raw)))
        except InvalidRequest as invalid:
            refused.append((index, invalid.faults))
    if not drafts:  # a 2xx says that something was stored
        raise InvalidRequest(
            "no message of the batch is valid",
            tuple(Fault(f"{at}/{index}{fault.pointer}", fault.detail) for index, faults in refused for fault in faults),
        )
    return _seal_all(drafts, keys, [BatchFault(index, describe(faults)) for index, faults in refused])


def _seal_all(drafts: list[Draft], keys: TenantKeys, errors: list[BatchFault]) -> tuple[list[NewMessage], bytes]:
    messages = [seal(checked, keys) for checked in drafts]
    return messages, _ENCODE(BatchAccepted([EmailId(str(message.message_id)) for message in messages], errors))


def _check_count(count: int, at: str) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise InvalidRequest("the batch is not valid", (Fault(at, f"give between 1 and {MAX_BATCH} messages"),))


def _idempotency_key(headers: dict[bytes, bytes]) -> bytes | None:
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    # The draft standard writes it as a quoted string, habit as it is: both name the same key.
    if len(key) > 1 and key.startswith(b'"') and key.endswith(b'"'):
        key = key[1:-1]
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("send an Idempotency-Key of 1 to 256 printable ASCII characters")
    return key
