"""The files of a message that was sent: their list, which opens none of them, and links that do for an hour.

A link is what Resend's SDKs expect in `download_url`: whoever has it may fetch the file, without a key. It is a value
sealed under the tenant's field key: every api process opens it, whatever root key or admin key has changed since, and
it names tenant, message, attachment and the API key it was made for. That key must still be good when the link is
used, so revoking it ends its links; the read stands in the audit under its name.
"""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import quote
from uuid import UUID

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply, parse_cursor, parse_id, parse_limit
from email_gateway.api.clients import base_url, client_address
from email_gateway.api.context import ApiContext
from email_gateway.errors import Fault, InvalidRequest, NotFound, RateLimited, Tampered
from email_gateway.mail.content import Attachment, AttachmentSummary
from email_gateway.store.attachments import (
    Grant,
    StoredAttachment,
    get_attachment,
    get_granted_attachment,
    list_attachments,
)
from email_gateway.store.audit import add_audit
from email_gateway.store.messages import get_sealed_attachment
from email_gateway.vault.tenant_keys import TenantKeys

LINK_LASTS = timedelta(hours=1)
LINK_FIELD = "attachment.download"
MAX_LINK_CHARACTERS = 200  # one has 176
NO_LINK = "no such download, or its hour is over: ask for the attachment again"

_ENCODE = msgspec.json.Encoder().encode
_PACK = msgspec.msgpack.Encoder().encode
_ATTACHMENT = msgspec.msgpack.Decoder(Attachment)
_SUMMARY = msgspec.msgpack.Decoder(AttachmentSummary)
# A file is somebody's word. It comes from the address that the dashboard has too, and must not run there.
_GUARDED = (b"content-security-policy", b"sandbox; default-src 'none'")


class AttachmentView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a message, and where to fetch it."""

    object: Literal["attachment"] = "attachment"
    id: str
    filename: str
    size: Annotated[int, Meta(description="In bytes.")]
    content_type: str
    content_disposition: Literal["inline", "attachment"]
    content_id: str | None
    download_url: Annotated[str, Meta(description="Opens without a key, until `expires_at`.")]
    expires_at: datetime


class AttachmentList(msgspec.Struct, frozen=True):
    """A page of a message's files, in their order."""

    has_more: bool
    data: list[AttachmentView]
    object: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class Links:
    """Makes links for one answer: whose they are, where they lead, and until when."""

    keys: TenantKeys
    api_key_id: UUID
    base: str
    expires_at: datetime

    def make(self, message_id: UUID, attachment_id: UUID) -> str:
        """Return the address of one file.

        The token is, in base64::

             0 ........ 16 .............. 32 ........................................
             tenant id     attachment id     sealed (expires_at, message id, key id)
        """
        grant = _PACK((int(self.expires_at.timestamp()), message_id.bytes, self.api_key_id.bytes))
        sealed = self.keys.seal(LINK_FIELD, attachment_id, grant)
        token = urlsafe_b64encode(self.keys.tenant_id.bytes + attachment_id.bytes + sealed).rstrip(b"=")
        return f"{self.base}/v1/downloads/{token.decode()}"


async def list_email_attachments(context: ApiContext, call: Call) -> Reply:
    """Return a page of a message's files; none of them is opened."""
    message_id = parse_id(call.params["email_id"], "email")
    query = call.query()
    limit = parse_limit(query.get("limit"))
    after, before = (parse_cursor(query[name], name) if name in query else None for name in ("after", "before"))
    found = await list_attachments(context.db, call.tenant_id, message_id)
    page, has_more = _cut(found, limit, after, before)
    links = await _links(context, call)
    return Reply(200, _ENCODE(AttachmentList(has_more, [await _view(context, call, one, links) for one in page])))


async def get_email_attachment(context: ApiContext, call: Call) -> Reply:
    """Return one file's name, type and size, and a link to it."""
    message_id = parse_id(call.params["email_id"], "email")
    attachment_id = parse_id(call.params["attachment_id"], "attachment")
    found = await get_attachment(context.db, call.tenant_id, message_id, attachment_id)
    return Reply(200, _ENCODE(await _view(context, call, found, await _links(context, call))))


async def download_attachment(context: ApiContext, call: Call) -> Reply:
    """Return a file to whoever has its link.

    Links that nobody made count as wrong API keys against their client.
    """
    client = client_address(call.scope, context.settings.trusted_proxies)
    if wait := await context.limits.key_wait_seconds(client):
        raise RateLimited("too many wrong links or API keys from this address", wait)
    try:
        grant = await _open_link(context, call.params["token"])
    except Tampered:
        await context.limits.add_key_failure(client)
        raise NotFound(NO_LINK) from None
    if grant.expires_at <= datetime.now(UTC):
        raise NotFound(NO_LINK)
    found = await get_granted_attachment(context.db, grant)
    call.weighs_on = grant.tenant_id
    call.hold(found.size)
    async with call.budget.at_work:
        attachment = await _open(context, found)
        async with context.db.transaction() as transaction:
            await add_audit(
                transaction,
                actor=f"api_key:{grant.api_key_id}",
                action="attachment.downloaded",
                tenant_id=grant.tenant_id,
                subject=str(grant.attachment_id),
            )
    name = quote(attachment.filename, safe="")
    return Reply(
        200,
        attachment.data,
        ((b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()), _GUARDED),
        (b"content-type", attachment.content_type.encode()),
    )


async def _links(context: ApiContext, call: Call) -> Links:
    assert call.account is not None  # the route needs a key
    keys = await context.keyring.tenant(call.tenant_id)
    base = base_url(call.scope, call.headers, context.settings.trusted_proxies)
    return Links(keys, call.account.api_key_id, base, (datetime.now(UTC) + LINK_LASTS).replace(microsecond=0))


async def _open_link(context: ApiContext, token: str) -> Grant:
    """Return what a link grants; raises Tampered for whatever we did not make."""
    if len(token) > MAX_LINK_CHARACTERS:
        raise Tampered("the link is too long")
    try:
        octets = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        tenant_id, attachment_id, sealed = UUID(bytes=octets[:16]), UUID(bytes=octets[16:32]), octets[32:]
    except (Base64Error, ValueError):
        raise Tampered("the link is not one") from None
    opened = await context.keyring.open(tenant_id, LINK_FIELD, attachment_id, sealed)
    until, message_id, api_key_id = msgspec.msgpack.decode(opened, type=tuple[int, bytes, bytes])
    expires_at = datetime.fromtimestamp(until, UTC)
    return Grant(tenant_id, UUID(bytes=message_id), attachment_id, UUID(bytes=api_key_id), expires_at)


async def _view(context: ApiContext, call: Call, stored: StoredAttachment, links: Links) -> AttachmentView:
    summary = await _summary(context, call, stored)
    return AttachmentView(
        id=str(stored.attachment_id),
        filename=summary.filename,
        size=stored.size,
        content_type=summary.content_type,
        content_disposition="attachment" if summary.content_id is None else "inline",
        content_id=summary.content_id,
        download_url=links.make(stored.message_id, stored.attachment_id),
        expires_at=links.expires_at,
    )


async def _summary(context: ApiContext, call: Call, stored: StoredAttachment) -> AttachmentSummary:
    if stored.sealed_summary is None:  # from before there were summaries: the name stands within the file's value only
        async with call.budget.at_work:
            attachment = await _open(context, stored)
        return AttachmentSummary(attachment.filename, attachment.content_type, attachment.content_id)
    opened = await context.keyring.open(
        stored.tenant_id, "attachment.summary", stored.attachment_id, stored.sealed_summary
    )
    return _SUMMARY.decode(opened)


async def _open(context: ApiContext, stored: StoredAttachment) -> Attachment:
    sealed = await get_sealed_attachment(context.db, stored.tenant_id, stored.message_id, stored.attachment_id)
    opened = await context.keyring.open(stored.tenant_id, "attachment.content", stored.attachment_id, sealed)
    return await asyncio.to_thread(_ATTACHMENT.decode, opened)


def _cut(
    found: list[StoredAttachment], limit: int, after: UUID | None, before: UUID | None
) -> tuple[list[StoredAttachment], bool]:
    """Return a page of a message's files, which are a hundred at most, and whether there are more that way."""
    if after is not None and before is not None:
        raise InvalidRequest("the page is not valid", (Fault("/before", "give after or before, not both"),))
    ids = [one.attachment_id for one in found]
    for name, cursor in (("after", after), ("before", before)):
        if cursor is not None and cursor not in ids:
            raise InvalidRequest("the page is not valid", (Fault(f"/{name}", "use an id from the list as the cursor"),))
    if before is not None:
        left = found[: ids.index(before)]
        return left[-limit:], len(left) > limit
    left = found[ids.index(after) + 1 :] if after is not None else found
    return left[:limit], len(left) > limit
