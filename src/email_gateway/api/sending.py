"""POST /v1/emails and /v1/emails/batch: from a body to durable, sealed messages."""

import asyncio
import re
from typing import Literal

import msgspec

from email_gateway.api.access import check_senders
from email_gateway.api.bodies import LargeBody
from email_gateway.api.calls import MAX_BODY_BYTES, Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.correlation import find_traceparent
from email_gateway.api.preparing import Order, prepare
from email_gateway.api.rendering import TemplatesNeeded
from email_gateway.api.templates import load_templates
from email_gateway.errors import DomainNotVerified, InvalidRequest, RateLimited
from email_gateway.limits.callers import CallerStanding
from email_gateway.observe import ACCEPTED
from email_gateway.store.accepting import Accepted, NewRequest
from email_gateway.vault.tenant_keys import TenantKeys

# Above this, decoding and sealing would hold up every other request of this process.
OFF_LOOP_BYTES = 64 * 1024
# The same for a batch, which may be of very short messages: 36 us each, whatever their size.
OFF_LOOP_BATCH_BYTES = 8 * 1024
REPLAYED = ((b"idempotency-replayed", b"true"),)

_IDEMPOTENCY_KEY = re.compile(rb"[\x20-\x7e]{1,256}")
_READ = (b"content-type", b"content-encoding")


async def send_email(context: ApiContext, call: Call) -> Reply:
    """Accept one message."""
    return await _accept(context, call, "one")


async def send_batch(context: ApiContext, call: Call) -> Reply:
    """Accept up to 1,000 messages, all or none; with `x-batch-validation: permissive`, those that are valid."""
    mode = call.headers.get(b"x-batch-validation", b"strict").lower()
    if mode not in (b"strict", b"permissive"):
        raise InvalidRequest('send "strict" or "permissive" in x-batch-validation')
    return await _accept(context, call, "permissive" if mode == b"permissive" else "strict")


async def _accept(context: ApiContext, call: Call, kind: Literal["one", "strict", "permissive"]) -> Reply:
    headers = {name: call.headers[name] for name in _READ if name in call.headers}
    order = Order(kind, headers, _idempotency_key(call.headers), find_traceparent(call.headers))
    body = await call.read_body(MAX_BODY_BYTES)
    keys = await context.keyring.tenant(call.tenant_id)
    with keys.uses:
        try:
            accepted = await _store(context, call, order, keys, body)
        except TemplatesNeeded as needed:
            templates = await load_templates(context, call, needed.names)
            accepted = await _store(context, call, msgspec.structs.replace(order, templates=templates), keys, body)
    return Reply(202, accepted.response, REPLAYED if accepted.is_replay else ())


async def _store(
    context: ApiContext, call: Call, order: Order, keys: TenantKeys, body: bytes | bytearray | LargeBody
) -> Accepted:
    """Prepare the request, a large one in a process of its own, and return after COMMIT."""
    if isinstance(body, LargeBody):
        async with call.budget.at_work:
            return await _commit(context, call, await context.preparer.prepare(order, keys, body))
    # `held` is the body, and once templates are loaded what is made of them.
    if call.held <= (OFF_LOOP_BYTES if order.kind == "one" else OFF_LOOP_BATCH_BYTES):
        return await _commit(context, call, prepare(order, keys, body))
    async with call.budget.in_thread:
        request = await asyncio.to_thread(prepare, order, keys, body)
    return await _commit(context, call, request)


async def _commit(context: ApiContext, call: Call, request: NewRequest) -> Accepted:
    check_senders(call, [message.sender_domain for message in request.messages])
    await _require_verified(context, request)
    assert call.standing is not None  # every route that needs an API key has one
    if call.standing.has_quotas:
        accepted = await _accept_within(call.standing, context, request)
    else:
        accepted = await context.acceptor.accept(request)
    if not accepted.is_replay:
        ACCEPTED.inc(len(request.messages))
    return accepted


async def _require_verified(context: ApiContext, request: NewRequest) -> None:
    """Raise DomainNotVerified for a sender whose domain, or a parent of it, the tenant has not proven; of a batch for any."""
    if context.settings.require_verified_domains:
        for domain in {message.sender_domain for message in request.messages}:
            if not await context.verified_domains.get(request.tenant_id, domain):
                raise DomainNotVerified


async def _accept_within(standing: CallerStanding, context: ApiContext, request: NewRequest) -> Accepted:
    """Store the request within its tenant's quotas. Raises as `Quotas.take` does, but not for one answered before."""
    recipients = sum(len(message.domains) for message in request.messages)
    try:
        async with standing.taking(recipients) as taken:
            accepted = await context.acceptor.accept(request)
            if accepted.is_replay:
                await taken.give_back()
            return accepted
    except RateLimited:
        if (answer := await context.acceptor.find_answer(request)) is None:
            raise
        return answer


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
