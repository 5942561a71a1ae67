"""What an operator does with lanes by hand: hold, release, try now; and all lanes that are not open, to look at."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from email_gateway.errors import Fault, InvalidRequest, NotFound
from email_gateway.mail.addresses import InvalidAddress, parse_domain
from email_gateway.mail.advice import EVERY_ROUTE, lane_name
from email_gateway.mail.deliveries import COMMON_LANE, destination_lane, sender_lane
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries
from email_gateway.store.pace import Temper
from email_gateway.store.queries import load

SQL = load("holds")

LANES_SHOWN = 1000
FLUSH_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """What an act is about: a destination, a tenant's sender, or all mail; on one route or (None) on every one."""

    route: str | None = None
    to: str | None = None
    sender: str | None = None
    tenant_id: UUID | None = None

    @property
    def lane(self) -> str:
        """The lane within the route; the route itself where neither destination nor sender is named."""
        if self.to is not None:
            return destination_lane(self.to)
        if self.sender is not None and self.tenant_id is not None:
            return sender_lane(self.tenant_id, self.sender)
        return COMMON_LANE

    @property
    def name(self) -> str:
        """What people call it."""
        return lane_name(self.route or EVERY_ROUTE, self.lane)

    @classmethod
    def choose(
        cls,
        routes: Collection[str],
        *,
        everything: bool = False,
        route: str | None = None,
        to: str | None = None,
        sender: str | None = None,
        tenant_id: UUID | None = None,
    ) -> Self:
        """Return what was named, on one of `routes` or on all; raises InvalidRequest for nothing, or for what is none."""
        if everything == any(one is not None for one in (route, to, sender, tenant_id)):
            raise _wrong("", "say what: everything, or a route, a destination or a sender")
        if to is not None and sender is not None:
            raise _wrong("/to", "name a destination or a sender, not both")
        if (sender is None) != (tenant_id is None):
            raise _wrong("/from", "name a sender by its domain and its tenant")
        if route is not None and route not in routes:
            raise _wrong("/route", f"there is no such route: name {' or '.join(routes)}")
        return cls(route, _domain(to, "/to"), _domain(sender, "/from"), tenant_id)

    def __str__(self) -> str:
        """Name it for the audit: nothing personal."""
        return f"{self.route or EVERY_ROUTE}/{self.lane}"


@dataclass(frozen=True, slots=True)
class Flushed:
    """What is tried now: the lanes (route and name) whose probe is due, and how many deliveries were made due."""

    lanes: tuple[tuple[str, str], ...]
    deliveries: int
    has_more: bool


async def list_lanes(db: Queries, lanes: Sequence[str] | None = None) -> list[Temper]:
    """Return the lanes that are not open, of all routes: first what an operator holds, then what replies hold."""
    return [Temper(*row) for row in await db.fetch(SQL.list_lanes, lanes, LANES_SHOWN)]


async def hold(db: Database, target: Target, *, actor: str, reason: str) -> None:
    """Hold by hand until `release`: every worker follows within a second, and what is under way still ends."""
    async with db.transaction() as transaction:
        await transaction.execute(SQL.hold, target.route or EVERY_ROUTE, target.lane, actor, reason)
        await _audit(transaction, "queue.held", target, actor, reason)


async def release(db: Database, target: Target, *, actor: str, reason: str | None = None) -> None:
    """End a hold by hand; raises NotFound when an operator does not hold just this."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.release, target.route or EVERY_ROUTE, target.lane) is None:
            raise NotFound("no operator holds this")
        await _audit(transaction, "queue.released", target, actor, reason)


async def flush(db: Database, target: Target, *, actor: str, reason: str | None = None) -> Flushed:
    """Try now: probe what replies hold, and make due up to 1,000 deliveries that would be tried later.

    Repeat while `has_more`. What an operator holds stays held.
    """
    lane = None if target.lane == COMMON_LANE else target.lane
    async with db.transaction() as transaction:
        lanes = await transaction.fetch(SQL.probe_now, target.route, lane)
        row = await transaction.fetch_one(SQL.bring_forward, target.to, target.tenant_id, target.sender, FLUSH_BATCH)
        assert row is not None  # an aggregate returns one row
        await _audit(transaction, "queue.flushed", target, actor, reason)
    changed: int = row["changed"]
    return Flushed(tuple((one["route"], one["lane"]) for one in lanes), changed, changed == FLUSH_BATCH)


async def _audit(transaction: Queries, action: str, target: Target, actor: str, reason: str | None) -> None:
    await add_audit(
        transaction, actor=actor, action=action, tenant_id=target.tenant_id, subject=str(target), reason=reason
    )


def _domain(text: str | None, pointer: str) -> str | None:
    if text is None:
        return None
    try:
        return parse_domain(text)
    except InvalidAddress:
        raise _wrong(pointer, "name a mail domain, such as example.net") from None


def _wrong(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, (Fault(pointer, detail),))
