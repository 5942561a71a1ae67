"""One request and its answer, as handlers see them: no more than the hot path needs."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from email_gateway.errors import Fault, InvalidRequest, NotFound, Overloaded, TooLarge
from email_gateway.store.accounts import Account

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# 40 MB of attachments are 53.4 MiB in base64 inside JSON; the rest is for the bodies.
MAX_BODY_BYTES = 56 * 1024 * 1024
# What one process holds of bodies, in all and of one tenant: with what decoding and sealing them takes it
# stays within 512 MiB. Room is taken as bytes arrive: an announced length costs its sender nothing.
MAX_BODIES_IN_FLIGHT = 128 * 1024 * 1024
MAX_BODIES_OF_A_TENANT = 64 * 1024 * 1024
MAX_PAGE = 100
DEFAULT_PAGE = 20

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


class BodyBudget:
    """How many bytes of request bodies this process holds at the moment, in all and for each tenant.

    `at_work` lets one large body at a time be decoded, sealed and written: that takes several times
    its size, and small requests go on beside it.
    """

    def __init__(self, limit: int = MAX_BODIES_IN_FLIGHT, share: int = MAX_BODIES_OF_A_TENANT) -> None:
        self._limit = limit
        self._share = share
        self._held: Counter[UUID | None] = Counter()
        self._total = 0
        self.at_work = asyncio.Semaphore(1)

    def take(self, tenant_id: UUID | None, size: int) -> None:
        """Count bytes in; raises Overloaded when they would be too many."""
        if self._held[tenant_id] + size > self._share:
            raise Overloaded("this process holds as many of your request bodies as it may: send fewer at a time")
        if self._total + size > self._limit:
            raise Overloaded("this process holds as many request bodies as it may: try again in a second")
        self._held[tenant_id] += size
        self._total += size

    def give_back(self, tenant_id: UUID | None, size: int) -> None:
        """Count bytes out."""
        self._held[tenant_id] -= size
        self._total -= size
        if not self._held[tenant_id]:
            del self._held[tenant_id]


@dataclass(slots=True)
class Call:
    """A request on its way through a handler.

    `account` is whom its API key speaks for; `actor` is what the audit calls an operator's key.
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
    held: int = 0

    @property
    def tenant_id(self) -> UUID:
        """Return the caller's tenant; only routes that need an API key may ask."""
        if self.account is None:
            raise RuntimeError("this route serves no tenant")
        return self.account.tenant_id

    async def read_body(self) -> bytes | bytearray:
        """Return the whole body.

        Raises TooLarge before more than the limit is held, Overloaded when there is no room for what
        has arrived, and ClientGone.
        """
        if self._declared_length() > MAX_BODY_BYTES:
            raise TooLarge("the body is larger than 56 MiB")
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            self._hold(len(whole))
            return whole
        body = bytearray()  # it grows in place: no second copy at the end
        while True:
            if message["type"] != "http.request":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            self._hold(len(chunk))
            body += chunk
            if not message.get("more_body", False):
                return body
            message = await self.receive()

    def release(self) -> None:
        """Give the bytes of the body back to the budget."""
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
        return self.account.tenant_id if self.account else None

    def _hold(self, size: int) -> None:
        if self.held + size > MAX_BODY_BYTES:
            raise TooLarge("the body is larger than 56 MiB")
        self.budget.take(self._holder, size)
        self.held += size

    def _declared_length(self) -> int:
        text = self.headers.get(b"content-length", b"0")
        return int(text) if text.isdigit() and len(text) < len(str(2**63)) else MAX_BODY_BYTES + 1


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


def parse_id(text: str, what: str) -> UUID:
    """Read an id of a path; raises NotFound, since what is not an id names nothing."""
    if not _UUID.fullmatch(text):
        raise NotFound(f"no such {what}")
    return UUID(text)


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
