"""Lists of messages: all of a tenant's, or those of a tag, a state, a time, a person."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import get_args

import msgspec

from email_gateway.api.calls import Call, Reply, make_page, parse_moment, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import ADVICE, BodyDecoder, check_json
from email_gateway.api.messages import open_message, view_message
from email_gateway.api.schemas import EmailList, SearchEmails, Status
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.content import Content
from email_gateway.mail.deliveries import State
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.search_terms import canonical_external_id
from email_gateway.mail.tax_ids import TaxId, parse_tax_id
from email_gateway.store.audit import add_audit
from email_gateway.store.listing import Blind, Chosen, list_messages

CRITERIA = ("tax_id", "address", "external_id", "tag", "status", "created_after", "created_before")

_SEARCH = BodyDecoder[SearchEmails](SearchEmails)
_ENCODE = msgspec.json.Encoder().encode
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}:[A-Za-z0-9_-]{1,256}")


async def list_emails(context: ApiContext, call: Call) -> Reply:
    """Return a page of messages, newest first, without their bodies."""
    query = call.query()
    page, chosen = parse_page(query), _chosen_by(query)
    async with context.db.transaction() as transaction:
        messages, has_more = await list_messages(transaction, call.tenant_id, page, chosen)
    return Reply(
        200, _ENCODE(EmailList(has_more, [view_message(m, *await open_message(context, m)) for m in messages]))
    )


async def search_emails(context: ApiContext, call: Call) -> Reply:
    """Return a page of the messages about a person; every search leaves an audit row."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _SEARCH.decode(body)
    person = _criterion(wanted)
    criteria = [name for name in CRITERIA if getattr(wanted, name) is not None]
    if not criteria:
        raise InvalidRequest("the search is not valid", (Fault("", f"give one of {', '.join(CRITERIA)}"),))
    tag = (wanted.tag.name, wanted.tag.value) if wanted.tag else None
    chosen = _chosen(tag, wanted.status, wanted.created_after, wanted.created_before)
    keys = await context.keyring.tenant(call.tenant_id)
    page = make_page(wanted.limit, wanted.after, wanted.before)
    async with context.db.transaction() as transaction:
        await add_audit(
            transaction,
            actor=call.api_key_actor,
            action="emails.searched",
            tenant_id=call.tenant_id,
            subject=", ".join(criteria),
        )
        if person is not None:
            blind = Blind(person.name, keys.blind(person.name, person.kind, person.canonical), keys.index_key_id)
            chosen = replace(chosen, blind=blind)
        messages, has_more = await list_messages(transaction, call.tenant_id, page, chosen)
    data = []
    for message in messages:
        content, tax_id = await open_message(context, message)
        # A blind value is 16 bytes of a hash: a hit is proven by what it names.
        if person is None or person.is_hit(content, tax_id):
            data.append(view_message(message, content, tax_id))
    return Reply(200, _ENCODE(EmailList(has_more, data)))


@dataclass(frozen=True, slots=True)
class _Person:
    """Whom to look for: the name, kind and canonical form of a blind value, and how a hit is proven."""

    name: str
    kind: int
    canonical: bytes = field(repr=False)
    is_hit: Callable[[Content, TaxId | None], bool] = field(repr=False)


def _criterion(wanted: SearchEmails) -> _Person | None:
    """Return whom a search is for, None where it is for nobody; raises InvalidRequest."""
    given = [name for name in ("tax_id", "address", "external_id") if getattr(wanted, name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise InvalidRequest("the search is not valid", (Fault("", "give one of tax_id, address and external_id"),))
    try:
        if wanted.tax_id is not None:
            sought = parse_tax_id(wanted.tax_id)
            return _Person("tax_id", sought.kind, sought.canonical.encode(), lambda _, tax_id: tax_id == sought)
        if wanted.address is not None:
            address = canonical_address(wanted.address)
            return _Person(
                "address", 0, address, lambda content, _: address in map(canonical_address, content.envelope)
            )
    except InvalidValue as error:
        raise InvalidRequest("the search is not valid", (Fault(f"/{given[0]}", str(error)),)) from None
    external_id = canonical_external_id(wanted.external_id or "")
    return _Person("external_id", 0, external_id.encode(), lambda content, _: content.external_id == external_id)


def _chosen_by(query: dict[str, str]) -> Chosen:
    """Read what a list is narrowed to."""
    tag = query.get("tag")
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidRequest("the query is not valid", (Fault("/tag", "write the tag as name:value"),))
    status = query.get("status")
    if status is not None and status not in get_args(Status):
        raise InvalidRequest("the query is not valid", (Fault("/status", ADVICE["status"]),))
    since, until = (
        parse_moment(query[name], name) if name in query else None for name in ("created_after", "created_before")
    )
    name, _, value = (tag or "").partition(":")
    return _chosen((name, value) if tag else None, status, since, until)


def _chosen(tag: tuple[str, str] | None, status: str | None, since: datetime | None, until: datetime | None) -> Chosen:
    is_scheduled = status == "scheduled"
    state = State.QUEUED if is_scheduled else State(status) if status is not None else None
    return Chosen(tag, state, is_scheduled, since, until)
