"""Messages on their way in: what a request brings, written in groups that share a COMMIT, large values piece by piece."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from uuid import UUID

from email_gateway.errors import GatewayError, IdempotencyConflict, IdempotencyInFlight, LockTimeout
from email_gateway.store.database import Database, Queries, Transaction
from email_gateway.store.group_commit import GroupCommit
from email_gateway.store.queries import load

SQL = load("messages")

NOTHING = memoryview(b"")
IDEMPOTENCY_WINDOW = timedelta(hours=24)
PRUNE_BATCH = 5_000
GROUP_BYTES = 8 * 1024 * 1024
LARGE_REQUEST_BYTES = 256 * 1024
# A message counts for at least this much, so that a group ends at 500 of them.
LEAST_MESSAGE_BYTES = GROUP_BYTES // 500
# A larger value is written in pieces of this size (`is_in_pieces` of the schema knows it too).
PIECE_BYTES = 256 * 1024
# What follows the first piece stands in rows of this size, one a page, as far as a page goes (8 KiB and its headers).
ROW_BYTES = 8000
ROWS_IN_PIECE = PIECE_BYTES // ROW_BYTES
UNKNOWN: tuple[None, None] = (None, None)  # a recipient of whom no suppression can be found
PIECE_COLUMNS = ("tenant_id", "message_id", "row_id", "number", "piece")


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """An attachment, sealed under `attachment.content` for `attachment_id`; `size` is of its data.

    `sealed` holds the first PIECE_BYTES, `rest` what follows; `sealed_summary` is for lists.
    """

    attachment_id: UUID
    sealed: bytes
    size: int
    rest: memoryview = NOTHING
    sealed_summary: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message ready to be written; everything personal in it is sealed or blind.

    `domains` holds the destination domain of each envelope recipient, in order; `recipients` holds what a
    suppression of each is found by: (index key id, 16-byte value). A delivery still
    queued after `lifetime` becomes dead, or expired where `dead_at_expiry` is false. `blind` holds
    (index key id, field, 16-byte value), under each index key in use. `priority` is 0, 1 or 2: within
    a tenant the lower ones go first. `sealed_content` holds the first PIECE_BYTES, `rest` what follows;
    a large message brings a `sealed_summary` for lists. `scheduled_at` is when it is to leave, and its lifetime
    begins then; without one, or with one that has passed, it is due at once. `traceparent` is 55 ASCII characters.
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
    recipients: tuple[tuple[bytes, bytes], ...] = ()
    priority: int = 1
    sealed_summary: bytes | None = None
    rest: memoryview = NOTHING
    scheduled_at: datetime | None = None
    traceparent: str | None = None

    @property
    def octets(self) -> int:
        """How many octets are written of it, about."""
        own = len(self.sealed_content) + len(self.rest)
        return own + sum(len(attachment.sealed) + len(attachment.rest) for attachment in self.attachments)

    def pieces(self) -> Iterator[list[tuple[UUID, int, memoryview]]]:
        """Yield what follows the first piece of each large value, a piece at a time, as rows.

        A row is (id that the value is bound to, number, octets).
        """
        values = [(self.message_id, self.rest), *((each.attachment_id, each.rest) for each in self.attachments)]
        for row_id, rest in values:
            starts = range(0, len(rest), ROW_BYTES)
            for first in range(0, len(starts), ROWS_IN_PIECE):
                numbered = enumerate(starts[first : first + ROWS_IN_PIECE], start=first + 1)
                yield [(row_id, number, rest[start : start + ROW_BYTES]) for number, start in numbered]


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
        return sum(max(LEAST_MESSAGE_BYTES, message.octets) for message in self.messages)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a request, durable; `is_replay` when an earlier request had earned it."""

    response: bytes
    is_replay: bool


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
                await self._add_pieces(transaction, winners)
        won = {id(request) for request in winners}
        return [
            Accepted(request.response, is_replay=False) if id(request) in won else await self._answer_of_winner(request)
            for request in group
        ]

    async def _add_pieces(self, transaction: Transaction, requests: list[NewRequest]) -> None:
        """Write what is large piece by piece, each on the disk before the next is written.

        A commit waits for all of the log before it. With one piece there at a time the commits of
        small messages wait for that piece at most, and not for a file of 29 MB. While there are
        such, this rests after a piece for as long as that took: the disk and a processor are theirs.
        """
        for request in requests:
            for message in request.messages:
                bound_to = request.tenant_id, message.message_id
                for rows in message.pieces():
                    began, others = time.monotonic(), self._small.committed
                    await transaction.copy("sealed_piece", PIECE_COLUMNS, [(*bound_to, *row) for row in rows])
                    await self._db.execute(SQL.await_disk)
                    if self._small.committed != others:
                        await asyncio.sleep(time.monotonic() - began)

    async def find_answer(self, request: NewRequest) -> Accepted | None:
        """Return what an earlier request with the same key and body was answered, or None."""
        if not request.idempotency:
            return None
        answer = await self._answer_of_winner(request)
        return answer if isinstance(answer, Accepted) else None

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
    return any(message.tags or message.attachments or message.rest for message in request.messages)


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
        (
            request.tenant_id,
            message.message_id,
            position,
            each.attachment_id,
            each.sealed,
            each.size,
            each.sealed_summary,
        )
        for request in requests
        for message in request.messages
        for position, each in enumerate(message.attachments)
    ]
    if attachments:
        await transaction.execute(SQL.add_attachments, *map(list, zip(*attachments, strict=True)))


def _message_columns(requests: list[NewRequest]) -> list[list[object]]:
    """Return the 28 arrays of `add_messages`: of messages, of deliveries, of blind indexes; what came later is last."""
    messages = [(request.tenant_id, m) for request in requests for m in request.messages]
    deliveries = [
        (tenant_id, m.message_id, recipient, domain, m.priority, m.lifetime, m.scheduled_at, *known_as)
        for tenant_id, m in messages
        for recipient, (domain, known_as) in enumerate(zip(m.domains, m.recipients or repeat(UNKNOWN), strict=False))
    ]
    indexes = [
        (tenant_id, m.message_id, field, index_key_id, value)
        for tenant_id, m in messages
        for index_key_id, field, value in m.blind
    ]
    *of_deliveries, lifetimes, scheduled, index_key_ids, values = _columns(deliveries, 9)
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
        *of_deliveries,
        *_columns(indexes, 5),
        lifetimes,
        [m.sealed_summary for _, m in messages],
        [m.scheduled_at for _, m in messages],
        scheduled,
        [m.traceparent for _, m in messages],
        index_key_ids,
        values,
    ]


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


async def prune_idempotency_keys(db: Queries) -> None:
    """Forget every idempotency key that has expired; workers may do it at the same time."""
    while await db.execute(SQL.prune_idempotency_keys, PRUNE_BATCH) == f"DELETE {PRUNE_BATCH}":
        pass
