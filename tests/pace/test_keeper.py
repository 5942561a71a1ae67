"""What a route teaches, written for the fleet in a real database and read by others."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from email_gateway.mail.deliveries import COMMON_LANE, Claims, Outcome, Scope, Verdict, destination_lane, sender_lane
from email_gateway.pace import Keeper, Pace, PaceLimits, Turn
from email_gateway.pace.keeper import FRESH_SECONDS
from email_gateway.store import pace as store
from email_gateway.store.database import Database
from email_gateway.store.pace import Temper
from tests.pace.makers import TENANT, delivered, make_claims, outcomes

pytestmark = pytest.mark.anyio

Prepare = Callable[[str], Awaitable[None]]


class Process:
    """One worker's pace and keeper."""

    def __init__(self, db: Database, prepare: Prepare | None = None) -> None:
        self.pace = Pace("smtp", PaceLimits(20, 15))
        self.pace.lane(COMMON_LANE).window = 20
        self.keeper = Keeper(db, self.pace, prepare)

    async def attempt(self, claims: Claims, heard: Callable[[Claims], list[Outcome]]) -> Turn:
        turn = self.pace.stand_in_line(claims)
        async with turn:
            self.keeper.hear(turn, heard(claims))
        return turn


def refused_login(claims: Claims) -> list[Outcome]:
    return outcomes(claims, Verdict.HELD, "auth_failed", Scope.OURS, stage="auth", code=535)


def throttled(claims: Claims) -> list[Outcome]:
    return outcomes(claims, Verdict.HELD, "rate_limited", Scope.ROUTE, code=454)


def silent(claims: Claims) -> list[Outcome]:
    return outcomes(claims, Verdict.DEFERRED, "timeout", Scope.DESTINATION, stage="rcpt")


async def tempers(db: Database) -> dict[str, Temper]:
    return {temper.lane: temper for temper in await store.list_tempers(db, "smtp")}


async def make_probe_due(db: Database) -> None:
    await db.execute("UPDATE pace SET probe_at = now() WHERE held_by = 'replies'")


async def test_a_reply_that_speaks_of_us_holds_the_route_for_every_process(db: Database) -> None:
    first, second = Process(db), Process(db)
    await first.attempt(make_claims(), refused_login)
    assert first.pace.lane(COMMON_LANE).is_shut, "at once, before the database knows"
    await first.keeper.look()
    await second.keeper.look()
    assert second.pace.lane(COMMON_LANE).is_shut
    held = (await tempers(db))[COMMON_LANE]
    assert (held.state, held.held_by, held.stage, held.reason, held.code) == (
        "held",
        "replies",
        "auth",
        "auth_failed",
        535,
    )


async def test_a_keeper_that_is_told_something_as_it_is_told_to_end_ends(db: Database) -> None:
    process = Process(db)
    turn = process.pace.stand_in_line(make_claims())
    async with turn, asyncio.timeout(20):
        keeping = asyncio.create_task(process.keeper.keep())
        while not process.keeper._wake._waiters:  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.keeper.hear(turn, refused_login(turn.claims))
        keeping.cancel()
        await asyncio.wait((keeping,))
    assert keeping.cancelled()


async def test_one_process_of_the_fleet_probes_and_its_success_opens_the_route_for_all(db: Database) -> None:
    first, second = Process(db), Process(db)
    await first.attempt(make_claims(), refused_login)
    await first.keeper.look()
    await make_probe_due(db)
    await first.keeper.look()
    await second.keeper.look()
    assert [one.pace.lane(COMMON_LANE).may_probe for one in (first, second)] == [True, False]
    turn = await first.attempt(make_claims(), delivered)
    assert turn.probes == {COMMON_LANE}
    await first.keeper.look()
    await second.keeper.look()
    assert await tempers(db) == {}
    assert not second.pace.lane(COMMON_LANE).is_held


async def test_a_probe_that_fails_makes_the_next_one_wait_longer(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims(), refused_login)
    for probes in range(1, 4):
        await process.keeper.look()
        await make_probe_due(db)
        await process.keeper.look()
        await process.attempt(make_claims(), refused_login)
        await process.keeper.look()
        held = (await tempers(db))[COMMON_LANE]
        assert held.probes == probes
        (wait,) = await db.fetch("SELECT extract(epoch FROM probe_at - now()) AS seconds FROM pace")
        assert 2**probes - 1 < wait["seconds"] <= 2**probes


async def test_conversations_that_were_under_way_do_not_count_as_probes(db: Database) -> None:
    process = Process(db)
    claims = [make_claims() for _ in range(3)]
    turns = [process.pace.stand_in_line(one) for one in claims]
    for turn in turns:
        await turn.__aenter__()
    for turn in turns:
        process.keeper.hear(turn, refused_login(turn.claims))
        process.pace.leave(turn)
    await process.keeper.look()
    assert (await tempers(db))[COMMON_LANE].probes == 0


async def test_credentials_are_renewed_before_a_login_is_tried_again(db: Database) -> None:
    renewed = []

    async def renew(reason: str) -> None:
        renewed.append(reason)

    process = Process(db, renew)
    await process.attempt(make_claims(), refused_login)
    await process.keeper.look()
    await make_probe_due(db)
    await process.keeper.look()
    assert renewed == ["auth_failed"]


async def test_an_operators_hold_is_not_probed_and_no_reply_ends_it(db: Database) -> None:
    await db.execute("INSERT INTO pace (route, lane, state, held_by) VALUES ('smtp', '', 'held', 'operator')")
    process = Process(db)
    await process.keeper.look()
    lane = process.pace.lane(COMMON_LANE)
    assert lane.is_shut
    assert not lane.may_probe
    await store.hold(db, "smtp", COMMON_LANE, store.Why("auth", "auth_failed"), probe_in=timedelta(0), is_probe=True)
    await store.open_lane(db, "smtp", COMMON_LANE)
    assert (await tempers(db))[COMMON_LANE].held_by == "operator"
    await db.execute("DELETE FROM pace")
    await process.keeper.look()
    assert not lane.is_held


async def hold_by_hand(db: Database, route: str = "smtp") -> None:
    await db.execute("INSERT INTO pace (route, lane, state, held_by) VALUES ($1, '', 'held', 'operator')", route)


async def test_nothing_may_be_claimed_before_it_was_read_what_is_held(db: Database) -> None:
    await hold_by_hand(db)
    process = Process(db)
    assert process.keeper.turns(10, [COMMON_LANE]).quotas == {}
    await process.keeper.look()
    assert process.keeper.turns(10, [COMMON_LANE]).quotas == {}, "it is held"
    await db.execute("DELETE FROM pace")
    await process.keeper.look()
    assert process.keeper.turns(10, [COMMON_LANE]).quotas == {COMMON_LANE: 10}


async def test_a_worker_whose_database_was_away_reads_what_is_held_before_it_claims(db: Database) -> None:
    process = Process(db)
    await process.keeper.look()
    process.keeper._looked_at -= FRESH_SECONDS
    assert process.keeper.turns(10, [COMMON_LANE]).quotas == {}


async def test_a_hold_of_every_route_outweighs_what_replies_say_of_this_one(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims(), refused_login)
    await process.keeper.look()
    await hold_by_hand(db, "*")
    await make_probe_due(db)
    await process.keeper.look()
    lane = process.pace.lane(COMMON_LANE)
    assert lane.is_shut, "no probe either"
    await db.execute("DELETE FROM pace WHERE route = '*'")
    await process.keeper.look()
    assert lane.may_probe, "and then what replies said counts again"


async def test_a_probe_that_was_taken_and_not_begun_ends_with_a_hold_by_hand(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims(), refused_login)
    await process.keeper.look()
    await make_probe_due(db)
    await process.keeper.look()
    assert process.pace.lane(COMMON_LANE).may_probe
    await hold_by_hand(db, "*")
    await process.keeper.look()
    assert process.pace.lane(COMMON_LANE).is_shut


@pytest.mark.parametrize("heard", [throttled, refused_login, delivered])
@pytest.mark.parametrize("is_probe", [False, True])
async def test_what_was_under_way_when_an_operator_held_does_not_end_the_hold_for_a_moment(
    db: Database, heard: Callable[[Claims], list[Outcome]], is_probe: bool
) -> None:
    process = Process(db)
    turn = process.pace.stand_in_line(make_claims())
    async with turn:
        turn.probes = {COMMON_LANE} if is_probe else set()
        await hold_by_hand(db)
        await process.keeper.look()
        process.keeper.hear(turn, heard(turn.claims))
        assert process.pace.lane(COMMON_LANE).is_shut, "before the database knows what was heard"
    await process.keeper.look()
    assert process.pace.lane(COMMON_LANE).is_shut
    assert (await tempers(db))[COMMON_LANE].held_by == "operator"


async def test_what_was_just_heard_does_not_hide_a_hold_by_hand(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims(), throttled)
    await process.keeper.look()
    await hold_by_hand(db, "*")
    process.keeper._changed_at[COMMON_LANE] = time.monotonic() + 60
    await process.keeper.look()
    assert process.pace.lane(COMMON_LANE).is_shut


async def test_what_speaks_of_a_sender_holds_that_sender_of_that_tenant_only(db: Database) -> None:
    process = Process(db)
    await process.attempt(
        make_claims(sender="refused.example"),
        lambda claims: outcomes(claims, Verdict.HELD, "sender_refused", Scope.SENDER, stage="mail", code=553),
    )
    await process.keeper.look()
    assert list(await tempers(db)) == [sender_lane(TENANT, "refused.example")]


async def test_a_throttle_slows_the_route_to_what_was_taken_in_the_last_second(db: Database) -> None:
    process = Process(db)
    for _ in range(14):
        await process.attempt(make_claims(), delivered)
    await process.attempt(make_claims(), throttled)
    await process.keeper.look()
    slowed = (await tempers(db))[COMMON_LANE]
    assert (slowed.state, slowed.rate, slowed.held_by) == ("slowed", 14, None)


async def test_refusals_of_one_moment_are_one_refusal(db: Database) -> None:
    process = Process(db)
    for _ in range(14):
        await process.attempt(make_claims(), delivered)
    turns = [process.pace.stand_in_line(make_claims()) for _ in range(5)]
    for turn in turns:
        await turn.__aenter__()
    for turn in turns:
        process.keeper.hear(turn, throttled(turn.claims))
        process.pace.leave(turn)
    await process.keeper.look()
    assert (await tempers(db))[COMMON_LANE].rate == 14


async def test_of_what_two_processes_saw_at_once_the_most_counts(db: Database) -> None:
    first, second = Process(db), Process(db)
    turns = [process.pace.stand_in_line(make_claims()) for process in (first, second)]
    for turn in turns:
        await turn.__aenter__()
    for _ in range(9):
        await second.attempt(make_claims(), delivered)
    for process, turn in zip((first, second), turns, strict=True):
        process.keeper.hear(turn, throttled(turn.claims))
        await process.keeper.look()
    assert (await tempers(db))[COMMON_LANE].rate == 9


async def test_whoever_has_not_heard_of_a_refusal_a_moment_ago_does_not_lower_the_rate_any_more(db: Database) -> None:
    first, second = Process(db), Process(db)
    for _ in range(9):
        await first.attempt(make_claims(), delivered)
    await first.attempt(make_claims(), throttled)
    await first.keeper.look()
    await second.attempt(make_claims(), throttled)  # begun later, and it took nothing before
    await second.keeper.look()
    assert (await tempers(db))[COMMON_LANE].rate == 9


async def test_silence_at_one_destination_holds_it_after_three_and_leaves_the_route_alone(db: Database) -> None:
    process = Process(db)
    for _ in range(3):
        await process.attempt(make_claims("hangs.example"), silent)
    await process.keeper.look()
    assert list(await tempers(db)) == [destination_lane("hangs.example")]


async def test_one_conversation_that_breaks_among_many_that_go_well_only_narrows_the_route(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims(), delivered)
    await process.attempt(
        make_claims(), lambda claims: outcomes(claims, Verdict.HELD, "connection_lost", Scope.ROUTE, stage="mail")
    )
    await process.keeper.look()
    assert await tempers(db) == {}
    assert process.pace.lane(COMMON_LANE).window == 10


async def test_too_many_connections_is_a_limit_of_connections_and_no_hold(db: Database) -> None:
    process = Process(db)
    turns = [process.pace.stand_in_line(make_claims()) for _ in range(4)]
    for turn in turns:
        await turn.__aenter__()
    process.keeper.hear(
        turns[3],
        outcomes(turns[3].claims, Verdict.HELD, "too_many_connections", Scope.ROUTE, stage="connect", code=421),
    )
    await process.keeper.look()
    assert await tempers(db) == {}
    assert process.pace.lane(COMMON_LANE).window == 3


async def test_a_refused_recipient_is_no_trouble_of_the_route(db: Database) -> None:
    process = Process(db)
    await process.attempt(
        make_claims(), lambda claims: outcomes(claims, Verdict.BOUNCED, "mailbox_unknown", Scope.RECIPIENT, code=550)
    )
    await process.keeper.look()
    assert await tempers(db) == {}


async def test_a_process_that_was_slow_blames_nobody(db: Database) -> None:
    process = Process(db)
    for reason in ("lease_ended", "no_free_connection"):
        turn = process.pace.stand_in_line(make_claims())
        async with turn:
            process.keeper.hear(turn, outcomes(turn.claims, Verdict.HELD, reason, Scope.OURS, stage="data"))
    await process.keeper.look()
    assert await tempers(db) == {}


async def test_a_rate_that_nobody_needs_does_not_climb_and_is_forgotten_in_the_end(db: Database) -> None:
    await db.execute(
        "INSERT INTO pace (route, state, rate, slowed_at, reason) VALUES ('smtp', 'slowed', 14, now() - interval '20 s', 'rate_limited')"
    )
    process = Process(db)
    await process.keeper.look()
    rested = (await tempers(db))[COMMON_LANE]
    assert rested.slowed_for is not None
    assert rested.slowed_for < 16
    await db.execute("UPDATE pace SET since = now() - interval '2 hours', slowed_at = now() - interval '20 s'")
    await process.keeper.look()
    assert await tempers(db) == {}


async def test_lanes_that_nobody_uses_are_forgotten(db: Database) -> None:
    process = Process(db)
    await process.attempt(make_claims("once.example"), delivered)
    process.pace.lane(destination_lane("once.example")).used_at = time.monotonic() - 100
    await process.keeper.look()
    assert destination_lane("once.example") not in process.pace.lanes
