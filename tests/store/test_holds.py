"""What an operator holds, releases and tries now, in a real PostgreSQL; every act with its audit row."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.errors import InvalidRequest, NotFound
from email_gateway.mail.deliveries import COMMON_LANE, destination_lane, sender_lane
from email_gateway.store import holds, pace
from email_gateway.store.accepting import Acceptor
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.holds import Target
from email_gateway.store.pace import Temper, Why
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

ROUTES = ("inbox", "smtp")
REFUSED = Why("auth", "auth_failed", 535, "5.7.8")
THROTTLED = Why("dot", "rate_limited", 454)


async def hold(db: Database, target: Target, reason: str = "ticket 4711") -> None:
    await holds.hold(db, target, actor="ana", reason=reason)


async def release(db: Database, target: Target) -> None:
    await holds.release(db, target, actor="ana")


async def standing(db: Database, route: str = "smtp") -> dict[str, Temper]:
    """What a worker of this route goes by."""
    return {temper.lane: temper for temper in await pace.list_tempers(db, route)}


async def test_a_hold_says_who_and_why_and_release_leaves_nothing(db: Database) -> None:
    target = Target("smtp")
    await hold(db, target)
    held = (await standing(db))[COMMON_LANE]
    assert (held.state, held.held_by, held.actor, held.note, held.probe_at) == (
        "held",
        "operator",
        "ana",
        "ticket 4711",
        None,
    )
    await release(db, target)
    assert await standing(db) == {}
    assert [(entry.actor, entry.action, entry.subject, entry.reason) for entry in await list_audit(db)] == [
        ("ana", "queue.released", "smtp/", None),
        ("ana", "queue.held", "smtp/", "ticket 4711"),
    ]


async def test_a_hold_of_no_named_route_holds_every_route(db: Database) -> None:
    await hold(db, Target(to="example.net"))
    for route in ROUTES:
        assert (await standing(db, route))[destination_lane("example.net")].is_held_by_hand


async def test_held_again_it_keeps_its_time_and_gets_the_new_reason(db: Database) -> None:
    await hold(db, Target(), "first")
    before = (await standing(db))[COMMON_LANE].since
    await hold(db, Target(), "second")
    held = (await standing(db))[COMMON_LANE]
    assert (held.since, held.note) == (before, "second")


async def test_no_reply_changes_a_hold_by_hand(db: Database) -> None:
    await hold(db, Target("smtp"))
    await pace.hold(db, "smtp", COMMON_LANE, REFUSED, probe_in=timedelta(0), is_probe=True)
    await pace.open_lane(db, "smtp", COMMON_LANE)
    await pace.slow(db, "smtp", COMMON_LANE, THROTTLED, rate=5, unheard=timedelta(0))
    await pace.forget(db, "smtp", COMMON_LANE, after=timedelta(0))
    assert not await pace.lease_probe(db, "smtp", COMMON_LANE, for_=timedelta(seconds=15))
    held = (await standing(db))[COMMON_LANE]
    assert held.is_held_by_hand
    assert held.is_held


async def test_what_replies_held_is_probed_at_once_when_the_hold_by_hand_is_released(db: Database) -> None:
    await pace.hold(db, "smtp", COMMON_LANE, REFUSED, probe_in=timedelta(minutes=5), is_probe=False)
    await hold(db, Target("smtp"))
    await release(db, Target("smtp"))
    held = (await standing(db))[COMMON_LANE]
    assert (held.held_by, held.reason, held.is_probe_due, held.note) == ("replies", "auth_failed", True, None)


async def test_a_rate_that_was_learned_counts_again_after_a_hold_by_hand(db: Database) -> None:
    await pace.slow(db, "smtp", COMMON_LANE, THROTTLED, rate=14, unheard=timedelta(0))
    await hold(db, Target("smtp"))
    await release(db, Target("smtp"))
    slowed = (await standing(db))[COMMON_LANE]
    assert (slowed.state, slowed.rate, slowed.held_by) == ("slowed", 14, None)


async def test_only_what_an_operator_holds_can_be_released_and_a_refusal_leaves_no_audit(db: Database) -> None:
    await pace.hold(db, "smtp", COMMON_LANE, REFUSED, probe_in=timedelta(minutes=5), is_probe=False)
    await hold(db, Target(to="example.net"))
    for target in (Target("smtp"), Target(), Target(to="example.org"), Target("smtp", to="example.net")):
        with pytest.raises(NotFound):
            await release(db, target)
    assert [entry.action for entry in await list_audit(db)] == ["queue.held"]


async def test_flush_makes_probes_due_and_leaves_what_an_operator_holds(db: Database) -> None:
    lane = destination_lane("example.net")
    for route, name in (("smtp", COMMON_LANE), ("smtp", lane), ("inbox", COMMON_LANE)):
        await pace.hold(db, route, name, REFUSED, probe_in=timedelta(minutes=5), is_probe=False)
    await hold(db, Target("inbox"))
    done = await holds.flush(db, Target(to="example.net"), actor="ana")
    assert done.lanes == (("smtp", lane),)
    done = await holds.flush(db, Target(), actor="ana")
    assert set(done.lanes) == {("smtp", COMMON_LANE), ("smtp", lane)}
    assert all(temper.is_probe_due for temper in (await standing(db)).values())
    assert (await standing(db, "inbox"))[COMMON_LANE].is_held_by_hand


async def test_flush_makes_due_what_would_be_tried_later_and_counts_no_attempt(
    db: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "FLUSH_BATCH", 2)
    for domain, sender in (("a.example", "acme.example"), ("a.example", "shop.example"), ("b.example", "acme.example")):
        message = new_message(domains=(domain,), sender_domain=sender)
        await Acceptor(db).accept(new_request(tenant_id, message))
    later = "UPDATE delivery SET next_attempt_at = now() + interval '1 hour'"
    counts = []
    for target in (Target(to="b.example"), Target(sender="shop.example", tenant_id=tenant_id)):
        await db.execute(later)
        counts.append((await holds.flush(db, target, actor="ana")).deliveries)
    assert counts == [1, 1]
    await db.execute(later)
    first, second = [await holds.flush(db, Target(), actor="ana") for _ in range(2)]
    assert ((first.deliveries, first.has_more), (second.deliveries, second.has_more)) == ((2, True), (1, False))
    rows = await db.fetch("SELECT next_attempt_at <= now() AS is_due, attempts FROM delivery")
    assert [tuple(row) for row in rows] == [(True, 0)] * 3


def test_a_target_is_named_as_people_and_as_commands_name_it() -> None:
    tenant = uuid.uuid4()
    for chosen, lane, name in (
        (Target.choose(ROUTES, everything=True), COMMON_LANE, "all mail"),
        (Target.choose(ROUTES, route="smtp"), COMMON_LANE, "route smtp"),
        (Target.choose(ROUTES, to="EXAMPLE.net"), "to:example.net", "mail to example.net"),
        (Target.choose(ROUTES, to="example.net", route="smtp"), "to:example.net", "mail to example.net on route smtp"),
        (
            Target.choose(ROUTES, sender="acme.example", tenant_id=tenant),
            sender_lane(tenant, "acme.example"),
            f"mail from acme.example of tenant {tenant}",
        ),
    ):
        assert (chosen.lane, chosen.name) == (lane, name)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"everything": True, "route": "smtp"},
        {"route": "pigeon"},
        {"to": "not a domain"},
        {"to": "example.net", "sender": "acme.example", "tenant_id": uuid.uuid4()},
        {"sender": "acme.example"},
        {"tenant_id": uuid.uuid4()},
    ],
)
def test_what_names_nothing_is_refused(named: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        Target.choose(ROUTES, **named)  # type: ignore[arg-type]
