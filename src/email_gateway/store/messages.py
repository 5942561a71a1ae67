"""Messages as they are kept: accepted in groups that share a COMMIT, read one by one or by page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.errors import (
    GatewayError,
    IdempotencyConflict,
    IdempotencyInFlight,
    LockTimeout,
    NotFound,
)
from email_gateway.mail.deliveries import State
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.group_commit import GroupCommit
from email_gateway.store.queries import load

SQL = load("messages")

# A list brings no content larger than this with it; one message brings its own, whatever its size.
LISTED_CONTENT = 64 * 1024
LARGEST_CONTENT = 2**31 - 1

IDEMPOTENCY_WINDOW = timedelta(hours=24)
PRUNE_BATCH = 5_000
GROUP_BYTES = 8 * 1024 * 1024
LARGE_REQUEST_BYTES = 256 * 1024
# A message counts for at least this much, so that a group ends at 500 of them.
LEAST_MESSAGE_BYTES = GROUP_BYTES // 500


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """An attachment, sealed under `attachment.content` for `attachment_id`; `size` is of its data."""

    attachment_id: UUID
    sealed: bytes
    size: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message ready to be written; everything personal in it is sealed or blind.

    `domains` holds the destination domain of each envelope recipient, in order. A delivery still
    queued after `lifetime` becomes dead, or expired where `dead_at_expiry` is false. `blind` holds
    (index key id, field, 16-byte value), under each index key in use. `priority` is 0, 1 or 2: within
    a tenant the lower ones go first.
    """

    message_id: UUID
    sealed_content: bytes
    sealed_tax_id: bytes | None
    size: int
    sender_domain: str
    domains: tuple[str, ...]
    on_doubt: str
    lifetime: timedelta
    dead_at_expiry: bool
    tags: tuple[tuple[str, str], ...] = ()
    attachments: tuple[NewAttachment, ...] = ()
    blind: tuple[tuple[bytes, str, bytes], ...] = ()
    priority: int = 1


@dataclass(frozen=True, slots=True)
class NewRequest:
    """What one HTTP request brings: its messages, and the JSON that a replay of it answers.

    `idempotency` holds (HMAC of the Idempotency-Key, HMAC of the body) under each index key in use,
    and nothing without such a key.
    """

    tenant_id: UUID
    messages: tuple[NewMessage, ...]
    response: bytes
    idempotency: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def weight(self) -> int:
        return sum(
            max(LEAST_MESSAGE_BYTES, len(message.sealed_content) + sum(len(a.sealed) for a in message.attachments))
            for message in self.messages
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a request, durable; `is_replay` when an earlier request had earned it."""

    response: bytes
    is_replay: bool


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One recipient's delivery as it stands."""

    recipient: int
    domain: str
    state: State
    phase: str | None
    attempts: int
    next_attempt_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    code: int | None
    enhanced: str | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it is kept, with its deliveries and tags; the content is still sealed.

    `sealed_content` is None for a large one of a list: `get_sealed_content` reads it when it is needed.
    """

    tenant_id: UUID
    message_id: UUID
    created_at: datetime
    expires_at: datetime
    sender_domain: str
    size: int
    attachment_count: int
    sealed_content: bytes | None
    sealed_tax_id: bytes | None
    deliveries: tuple[StoredDelivery, ...]
    tags: tuple[tuple[str, str], ...]

    @property
    def whole_content(self) -> bytes:
        """The sealed content of a message that was read by itself."""
        assert self.sealed_content is not None
        return self.sealed_content


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One fact in a message's history; the server's reply is still sealed."""

    event_id: UUID
    recipient: int | None
    kind: str
    at: datetime
    attempt: int | None
    stage: str | None
    reason: str | None
    code: int | None
    enhanced: str | None
    sealed_reply: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `after` an id means older ones, `before` an id newer ones."""

    limit: int = 20
    after: UUID | None = None
    before: UUID | None = None


class Acceptor:
    """Writes accepted requests; one for a process, shared by its request handlers."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._small, self._large = (
            GroupCommit[NewRequest, Accepted](
                self._commit, weigh=lambda request: request.weight, max_weight=GROUP_BYTES
            )
            for _ in range(2)
        )  # the commit of a large one takes long: small ones do not wait behind it

    async def accept(self, request: NewRequest) -> Accepted:
        """Store the request's messages and return after COMMIT (contract C1).

        Raises IdempotencyConflict when its key was used for another body, IdempotencyInFlight when
        a twin has been committing for over five seconds, DatabaseUnavailable when the outcome is
        unknown (repeating with the same key is safe), Overloaded once it closes. How many bytes may
        be in flight is for the caller to bound: it holds the request's body all the while.
        """
        try:
            group = self._large if request.weight > LARGE_REQUEST_BYTES else self._small
            return await group.submit(request)
        except LockTimeout:
            if request.idempotency:
                raise IdempotencyInFlight("a request with this Idempotency-Key is still being stored") from None
            raise

    async def close(self) -> None:
        """Refuse new requests and wait for those under way."""
        await self._small.close()
        await self._large.close()

    async def _commit(self, group: list[NewRequest]) -> Sequence[Accepted | Exception]:
        if not any(request.idempotency or _has_children(request) for request in group):
            await self._db.execute(SQL.add_messages, *_message_columns(group))
            return [Accepted(request.response, is_replay=False) for request in group]
        async with self._db.transaction() as transaction:
            winners = await _win_keys(transaction, group)
            if winners:
                await _add_all(transaction, winners)
        won = {id(request) for request in winners}
        return [
            Accepted(request.response, is_replay=False) if id(request) in won else await self._answer_of_winner(request)
            for request in group
        ]

    async def _answer_of_winner(self, request: NewRequest) -> Accepted | Exception:
        try:
            key_hmacs = [key_hmac for key_hmac, _ in request.idempotency]
            row = await self._db.fetch_one(SQL.find_idempotency_answer, request.tenant_id, key_hmacs)
        except GatewayError as error:
            # The group has committed: this must not look as if it had not, or it would be tried again.
            return error
        if row is None:  # it expired between the two statements
            return IdempotencyInFlight("the first use of this Idempotency-Key just expired: repeat the request")
        if (row["key_hmac"], row["fingerprint"]) not in request.idempotency:
            return IdempotencyConflict("this Idempotency-Key was used for another request within 24 hours")
        return Accepted(row["response"], is_replay=True)


def _has_children(request: NewRequest) -> bool:
    return any(message.tags or message.attachments for message in request.messages)


async def _win_keys(transaction: Queries, group: list[NewRequest]) -> list[NewRequest]:
    """Insert the group's idempotency keys; return the requests that may store their messages.

    While an index key changes a request brings its key twice, and wins only with both: a twin may
    come from a process that knows one of the two index keys alone.
    """
    first = {(r.tenant_id, key_hmac): (r, body_hmac) for r in reversed(group) for key_hmac, body_hmac in r.idempotency}
    if not first:
        return group
    rows = await transaction.fetch(
        SQL.add_idempotency_keys,
        [tenant_id for tenant_id, _ in first],
        [key_hmac for _, key_hmac in first],
        [body_hmac for _, body_hmac in first.values()],
        [request.response for request, _ in first.values()],
        IDEMPOTENCY_WINDOW,
    )
    taken = [(row["tenant_id"], row["key_hmac"]) for row in rows]
    won = Counter(id(first[key][0]) for key in taken)
    in_part = [key for key in taken if won[id(first[key][0])] < len(first[key][0].idempotency)]
    if in_part:
        await transaction.execute(SQL.give_back_idempotency_keys, *map(list, zip(*in_part, strict=True)))
    return [request for request in group if won[id(request)] == len(request.idempotency)]


async def _add_all(transaction: Queries, requests: list[NewRequest]) -> None:
    await transaction.execute(SQL.add_messages, *_message_columns(requests))
    tags = [
        (request.tenant_id, message.message_id, name, value)
        for request in requests
        for message in request.messages
        for name, value in message.tags
    ]
    if tags:
        await transaction.execute(SQL.add_tags, *map(list, zip(*tags, strict=True)))
    attachments = [
        (request.tenant_id, message.message_id, position, attachment.attachment_id, attachment.sealed, attachment.size)
        for request in requests
        for message in request.messages
        for position, attachment in enumerate(message.attachments)
    ]
    if attachments:
        await transaction.execute(SQL.add_attachments, *map(list, zip(*attachments, strict=True)))


def _message_columns(requests: list[NewRequest]) -> list[list[object]]:
    """Return the 21 arrays of `add_messages`: of messages, of deliveries, of blind indexes."""
    messages = [(request.tenant_id, m) for request in requests for m in request.messages]
    deliveries = [
        (tenant_id, m.message_id, recipient, domain, m.priority)
        for tenant_id, m in messages
        for recipient, domain in enumerate(m.domains)
    ]
    indexes = [
        (tenant_id, m.message_id, field, index_key_id, value)
        for tenant_id, m in messages
        for index_key_id, field, value in m.blind
    ]
    return [
        [tenant_id for tenant_id, _ in messages],
        [m.message_id for _, m in messages],
        [m.sealed_content for _, m in messages],
        [m.sealed_tax_id for _, m in messages],
        [m.size for _, m in messages],
        [m.sender_domain for _, m in messages],
        [len(m.domains) for _, m in messages],
        [len(m.attachments) for _, m in messages],
        [m.on_doubt for _, m in messages],
        [m.lifetime for _, m in messages],
        [m.dead_at_expiry for _, m in messages],
        *_columns(deliveries, 5),
        *_columns(indexes, 5),
    ]


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


async def prune_idempotency_keys(db: Queries) -> None:
    """Forget every idempotency key that has expired; workers may do it at the same time."""
    while await db.execute(SQL.prune_idempotency_keys, PRUNE_BATCH) == f"DELETE {PRUNE_BATCH}":
        pass


async def get_message(db: Queries, tenant_id: UUID, message_id: UUID) -> StoredMessage:
    """Return one message of the tenant; raises NotFound, also for another tenant's."""
    found = await _complete(db, tenant_id, await db.fetch(SQL.find_messages, tenant_id, [message_id], LARGEST_CONTENT))
    if not found:
        raise NotFound("no such email")
    return found[0]


async def list_messages(db: Queries, tenant_id: UUID, page: Page) -> tuple[list[StoredMessage], bool]:
    """Return a page of the tenant's messages, newest first, and whether there are more."""
    if page.before is not None:
        rows = await db.fetch(SQL.list_messages_before, tenant_id, page.before, page.limit + 1, LISTED_CONTENT)
    else:
        rows = await db.fetch(SQL.list_messages_after, tenant_id, page.after, page.limit + 1, LISTED_CONTENT)
    kept, has_more = _cut(rows, page)
    return await _complete(db, tenant_id, kept), has_more


async def search_messages(
    db: Queries, tenant_id: UUID, field: str, value: bytes, index_key_id: bytes, page: Page
) -> tuple[list[StoredMessage], bool]:
    """Return the messages whose `field` has this blind value; the caller opens and compares each."""
    sql = SQL.search_after if page.before is None else SQL.search_before
    cursor = page.after if page.before is None else page.before
    rows, has_more = _cut(await db.fetch(sql, tenant_id, field, index_key_id, value, cursor, page.limit + 1), page)
    ids = [row["message_id"] for row in rows]
    return await _complete(db, tenant_id, await db.fetch(SQL.find_messages, tenant_id, ids, LISTED_CONTENT)), has_more


async def list_events(db: Queries, tenant_id: UUID, message_id: UUID) -> list[StoredEvent]:
    """Return a message's facts, oldest first."""
    return [StoredEvent(*row) for row in await db.fetch(SQL.list_events, tenant_id, message_id)]


async def get_sealed_content(db: Queries, tenant_id: UUID, message_id: UUID) -> bytes:
    """Return a content that was too large to come with its claim."""
    row = await db.fetch_one(SQL.get_sealed_content, tenant_id, message_id)
    if row is None:
        raise NotFound("no such email")
    content: bytes = row["sealed_content"]
    return content


async def list_sealed_attachments(db: Queries, tenant_id: UUID, message_id: UUID) -> list[tuple[UUID, bytes]]:
    """Return (attachment_id, sealed value) of each attachment, in order."""
    return [tuple(row) for row in await db.fetch(SQL.list_sealed_attachments, tenant_id, message_id)]


def _cut(rows: list[Record], page: Page) -> tuple[list[Record], bool]:
    """Drop the row that only told whether there are more, and put the newest first."""
    kept = rows[: page.limit]
    return (kept[::-1] if page.before is not None else kept), len(rows) > page.limit


async def _complete(db: Queries, tenant_id: UUID, rows: list[Record]) -> list[StoredMessage]:
    """Add deliveries and tags to message rows, in two statements whatever their number."""
    ids = [row["message_id"] for row in rows]
    if not ids:
        return []
    deliveries: dict[UUID, list[StoredDelivery]] = {message_id: [] for message_id in ids}
    tags: dict[UUID, list[tuple[str, str]]] = {message_id: [] for message_id in ids}
    for message_id, recipient, domain, state, *rest in await db.fetch(SQL.list_deliveries, tenant_id, ids):
        deliveries[message_id].append(StoredDelivery(recipient, domain, State(state), *rest))
    for message_id, name, value in await db.fetch(SQL.list_tags, tenant_id, ids):
        tags[message_id].append((name, value))
    return [
        StoredMessage(**row, deliveries=tuple(deliveries[row["message_id"]]), tags=tuple(tags[row["message_id"]]))
        for row in rows
    ]
