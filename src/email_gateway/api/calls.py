"""One request and its answer, as handlers see them: no more than the hot path needs."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from email_gateway.api.bodies import HAS_MEMORY_FILES, LARGE_BODY_BYTES, BodyBudget, LargeBody
from email_gateway.errors import Fault, InvalidRequest, NotFound, TooLarge
from email_gateway.limits.callers import CallerStanding
from email_gateway.store.accounts import Account
from email_gateway.store.pages import Page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MIB = 1024 * 1024
# 40 MB of attachments are 53.4 MiB in base64 inside JSON; the rest is for the bodies.
MAX_BODY_BYTES = 56 * MIB
# What every other request needs, with room: its body is read on the event loop.
MAX_SMALL_BODY_BYTES = 256 * 1024
MAX_PAGE = 100
DEFAULT_PAGE = 20
A_MOMENT = "use a moment with its offset, such as 2026-11-29T03:00:00Z"

JSON = (b"content-type", b"application/json")
# Headers of which only one may come: of two, a proxy and we might each believe another.
_SINGLE = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"x-admin-key",
        b"x-rotation-key",
        b"idempotency-key",
        b"content-type",
        b"content-encoding",
        b"host",
    }
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back: a finished body and any headers beside the usual ones."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: tuple[bytes, bytes] = JSON


@dataclass(slots=True)
class Call:
    """A request on its way through a handler.

    `account` is whom its API key speaks for, and `standing` how that key and its tenant stand; `actor` is what the
    audit calls an operator's key. `weighs_on` is the tenant whose share of memory it takes, where no account says so.
    """

    scope: Scope
    receive: Receive
    budget: BodyBudget
    request_id: str
    headers: dict[bytes, bytes]
    params: dict[str, str] = field(default_factory=dict)
    route: str = "unknown"
    account: Account | None = None
    actor: str = "nobody"
    weighs_on: UUID | None = None
    standing: CallerStanding | None = None
    held: int = 0
    large_body: LargeBody | None = None

    @property
    def tenant_id(self) -> UUID:
        """Return the caller's tenant; only routes that need an API key may ask."""
        if self.account is None:
            raise RuntimeError("this route serves no tenant")
        return self.account.tenant_id

    @property
    def api_key_actor(self) -> str:
        """Return what the audit calls the caller's API key."""
        return f"api_key:{self.account.api_key_id}" if self.account else "nobody"

    async def read_small_body(self) -> bytes | bytearray:
        """Return the body of a request that carries no mail; raises as `read_body` does."""
        body = await self.read_body(MAX_SMALL_BODY_BYTES)
        assert not isinstance(body, LargeBody)  # the limit is below what is large
        return body

    async def read_body(self, limit: int) -> bytes | bytearray | LargeBody:
        """Return the whole body, a large one in a file in memory that lasts as long as the call.

        Raises TooLarge before more than `limit` is held, Overloaded when there is no room for what
        has arrived, and ClientGone.
        """
        if self._declared_length() > limit:
            raise _too_large(limit)
        body = bytearray()  # it grows in place: no second copy at the end
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            if self.held + len(chunk) > limit:
                raise _too_large(limit)
            self.hold(len(chunk))
            is_whole = not message.get("more_body", False)
            if is_whole and not body and not self.large_body:
                return chunk
            (self.large_body.add if self.large_body else body.extend)(chunk)
            if is_whole:
                return self.large_body or body
            if len(body) > LARGE_BODY_BYTES and HAS_MEMORY_FILES:
                self.large_body = LargeBody()
                self.large_body.add(body)
                body.clear()

    def hold(self, size: int) -> None:
        """Count bytes against the caller's tenant until the answer is sent; raises Overloaded."""
        self.budget.take(self._holder, size)
        self.held += size

    def release(self) -> None:
        """Give what was held back to the budget."""
        if self.large_body is not None:
            self.large_body.close()
        if self.held:
            self.budget.give_back(self._holder, self.held)
            self.held = 0

    def query(self) -> dict[str, str]:
        """Return the query's parameters; of a repeated one the last counts, as in the JSON."""
        raw = self.scope["query_string"]
        if not raw:
            return {}
        try:
            text = raw.decode("ascii")
            return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20))
        except ValueError:
            raise InvalidRequest("the query is not valid: write name=value pairs in percent-encoded UTF-8") from None

    @property
    def _holder(self) -> UUID | None:
        return self.account.tenant_id if self.account else self.weighs_on

    def _declared_length(self) -> int:
        text = self.headers.get(b"content-length", b"0")
        return int(text) if text.isdigit() and len(text) < len(str(2**63)) else MAX_BODY_BYTES + 1


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit // 1024} KiB" if limit < MIB else f"the body is larger than {limit // MIB} MiB"
    )


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by lower-case name; raises InvalidRequest for two where only one makes sense."""
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in _SINGLE and name in seen:
                raise InvalidRequest(f"send the header {name.decode()} once")
            seen.add(name)
    return headers


def is_id(text: str) -> bool:
    """Tell whether a text is one of our ids."""
    return _UUID.fullmatch(text) is not None


def parse_id(text: str, what: str) -> UUID:
    """Read an id of a path; raises NotFound, since what is not an id names nothing."""
    if not _UUID.fullmatch(text):
        raise NotFound(f"no such {what}")
    return UUID(text)


def find_uuid(text: str) -> UUID | None:
    """Return the id that a text is, or None."""
    return UUID(text) if _UUID.fullmatch(text) else None


def parse_cursor(text: str, name: str) -> UUID:
    """Read the cursor of a list."""
    if not _UUID.fullmatch(text):
        raise InvalidRequest("the page is not valid", (Fault(f"/{name}", "use an id from the list as the cursor"),))
    return UUID(text)


def parse_limit(text: str | None) -> int:
    """Read the size of a page, 20 unless it is given."""
    if text is None:
        return DEFAULT_PAGE
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:4]) <= MAX_PAGE:
        raise InvalidRequest(
            "the page is not valid", (Fault("/limit", f"use a whole number between 1 and {MAX_PAGE}"),)
        )
    return int(text)


def parse_page(query: dict[str, str]) -> Page:
    """Read which part of a list is asked for: `limit`, and `after` or `before` an id."""
    after, before = (parse_cursor(query[name], name) if name in query else None for name in ("after", "before"))
    return make_page(parse_limit(query.get("limit")), after, before)


def make_page(limit: int, after: UUID | None, before: UUID | None) -> Page:
    """Return a part of a list; raises InvalidRequest when it has two beginnings."""
    if after is not None and before is not None:
        raise InvalidRequest("the page is not valid", (Fault("/before", "give after or before, not both"),))
    return Page(limit, after, before)


def parse_moment(text: str, name: str) -> datetime:
    """Read a moment of a query: ISO 8601 with its offset."""
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    fault = Fault(f"/{name}", A_MOMENT)
    raise InvalidRequest("the query is not valid", (fault,))
