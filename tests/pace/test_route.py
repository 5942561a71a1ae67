"""The line before a route: how many at once, how fast, who makes room for whom, and what is claimed."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Claims, destination_lane, sender_lane
from email_gateway.pace import NotYet, Pace, PaceLimits, Turn
from email_gateway.store.pace import Temper
from tests.pace.makers import TENANT, make_claims

pytestmark = pytest.mark.anyio

SLOW = destination_lane("slow.example")


def temper(lane: str = COMMON_LANE, state: str = "held", rate: float | None = None, slowed_for: float = 100) -> Temper:
    return Temper(
        lane=lane,
        state=state,
        held_by="replies" if state == "held" else None,
        stage="connect",
        reason="connect_failed",
        code=None,
        enhanced=None,
        since=datetime.now(UTC),
        rate=rate,
        probes=0,
        probe_at=None,
        slowed_for=slowed_for if rate else None,
        is_probe_due=False,
        route="smtp",
    )


def make_pace(connections: int = 20) -> Pace:
    pace = Pace("smtp", PaceLimits(connections, max(1, connections * 3 // 4)))
    pace.lane(COMMON_LANE).window = connections  # past its slow start
    return pace


async def begun(*turns: Turn) -> list[bool]:
    """Let the loop turn, and say who may begin."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [turn.began is not None for turn in turns]


async def test_a_route_begins_with_one_conversation_and_widens_with_each_that_goes_well() -> None:
    pace = Pace("smtp", PaceLimits(20, 15))
    turns = [pace.stand_in_line(make_claims()) for _ in range(3)]
    assert await begun(*turns) == [True, False, False]
    pace.lane(COMMON_LANE).succeed(1, now=0)
    pace.leave(turns[0])
    assert await begun(*turns) == [True, True, True]


async def test_no_more_conversations_are_held_than_the_operator_allows() -> None:
    pace = make_pace(2)
    turns = [pace.stand_in_line(make_claims()) for _ in range(3)]
    assert await begun(*turns) == [True, True, False]
    async with turns[0]:
        assert await begun(turns[2]) == [False]
    assert await begun(turns[2]) == [True], "whoever waits first comes first"


async def test_a_destination_leaves_room_for_others_once_there_are_others() -> None:
    pace = make_pace(4)
    for domain in ("busy.example", "other.example"):
        pace.lane(destination_lane(domain)).window = 20
    busy = [pace.stand_in_line(make_claims("busy.example")) for _ in range(4)]
    other = pace.stand_in_line(make_claims("other.example"))
    assert await begun(*busy, other) == [True, True, True, False, True]


async def test_mail_for_a_route_that_is_held_goes_back_at_once() -> None:
    pace = make_pace()
    pace.lane(COMMON_LANE).use(temper(), now=0)
    with pytest.raises(NotYet):
        async with pace.stand_in_line(make_claims()):
            raise AssertionError("nothing may begin")
    assert pace.turns(50, [COMMON_LANE]).quotas == {}, "and nothing is claimed for it"


async def test_a_probe_is_one_mail_and_everybody_else_waits() -> None:
    pace = make_pace()
    pace.lane(COMMON_LANE).use(temper(), now=0)
    pace.lane(COMMON_LANE).may_probe = True
    assert pace.turns(50, [COMMON_LANE]).quotas == {COMMON_LANE: 1}
    probe, second = pace.stand_in_line(make_claims()), pace.stand_in_line(make_claims())
    async with probe:
        assert probe.probes == {COMMON_LANE}
        with pytest.raises(NotYet):
            async with second:
                raise AssertionError("only one probes")


async def test_a_destination_that_is_held_keeps_nobody_elses_mail() -> None:
    pace = make_pace()
    pace.lane(SLOW).use(temper(SLOW), now=0)
    with pytest.raises(NotYet):
        async with pace.stand_in_line(make_claims("slow.example")):
            raise AssertionError("it is held")
    async with pace.stand_in_line(make_claims("quick.example")):
        pass
    turns = pace.turns(50, [COMMON_LANE, SLOW])
    assert turns.destinations == {"slow.example"}, "its mail is moved to a lane of its own"
    assert SLOW not in turns.quotas, "from which nothing is taken"


async def test_a_sender_that_is_held_keeps_nobody_elses_mail() -> None:
    pace = make_pace()
    lane = sender_lane(TENANT, "refused.example")
    pace.lane(lane).use(temper(lane), now=0)
    with pytest.raises(NotYet):
        async with pace.stand_in_line(make_claims(sender="refused.example")):
            raise AssertionError("it is held")
    async with pace.stand_in_line(make_claims()):
        pass
    assert pace.turns(50, [COMMON_LANE]).senders == {lane}


async def test_a_suspect_probes_for_a_sender_that_has_nothing_else_waiting() -> None:
    pace, lane = make_pace(), sender_lane(TENANT, "acme.example")
    pace.lane(lane).use(temper(lane), 0.0)
    assert pace.turns(50, [COMMON_LANE, SUSPECT_LANE]).senders == {lane}
    pace.lane(lane).may_probe = True
    assert pace.turns(50, [COMMON_LANE, SUSPECT_LANE]).senders == set(), "or it would wait for ever: it is not moved"
    assert pace.turns(50, [COMMON_LANE, SUSPECT_LANE, lane]).senders == {lane}


async def test_a_rate_is_kept_and_shared_among_the_workers() -> None:
    pace = make_pace()
    pace.workers = 2
    loop = asyncio.get_running_loop()
    now = loop.time()
    pace.lane(COMMON_LANE).use(temper(state="slowed", rate=100, slowed_for=15), now=now)
    turns = [pace.stand_in_line(make_claims()) for _ in range(6)]
    await asyncio.gather(*(pass_through(turn) for turn in turns))
    starts = [turn.began or 0 for turn in turns]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert min(gaps) >= 0.019, "50 a second for each of two"


async def pass_through(turn: Turn) -> None:
    async with turn:
        pass


async def test_a_rate_counts_recipients() -> None:
    pace = make_pace()
    now = asyncio.get_running_loop().time()
    pace.lane(COMMON_LANE).use(temper(state="slowed", rate=100, slowed_for=15), now=now)
    five = pace.stand_in_line(make_claims(*[f"{n}.example" for n in range(5)]))
    one = pace.stand_in_line(make_claims())
    await asyncio.gather(pass_through(five), pass_through(one))
    assert (one.began or 0) - (five.began or 0) >= 0.049


async def test_the_fleets_count_is_asked_where_there_is_one() -> None:
    asked: list[tuple[str, int, int]] = []

    async def reserve(name: str, rate: float, count: int) -> float:
        asked.append((name, round(rate), count))
        return 0.0

    pace = Pace("smtp", PaceLimits(20, 15), reserve)
    pace.workers = 3
    now = asyncio.get_running_loop().time()
    pace.lane(COMMON_LANE).use(temper(state="slowed", rate=100, slowed_for=15), now=now)
    await pass_through(pace.stand_in_line(make_claims("a.example", "b.example")))
    assert asked == [("smtp/", 100, 2)]


async def test_no_more_is_claimed_than_the_route_takes_soon() -> None:
    pace = make_pace(20)
    assert 20 <= sum(pace.turns(100, [COMMON_LANE]).quotas.values()) <= 30
    now = asyncio.get_running_loop().time()
    pace.lane(COMMON_LANE).use(temper(state="slowed", rate=14, slowed_for=15), now=now)
    assert sum(pace.turns(100, [COMMON_LANE]).quotas.values()) <= 4, "what is claimed early is served out of turn"


async def test_a_suspect_is_claimed_beside_the_rest() -> None:
    assert SUSPECT_LANE in make_pace().turns(50, [COMMON_LANE, SUSPECT_LANE]).quotas


async def test_the_conversations_that_a_server_bears_are_shared_by_the_fleet() -> None:
    pace = Pace("smtp", PaceLimits(20, 15, fleet_conversations=5))
    pace.lane(COMMON_LANE).window = 20
    pace.workers = 2
    assert await begun(*(pace.stand_in_line(make_claims()) for _ in range(4))) == [True, True, False, False]
    pace.workers = 8
    assert pace.turns(100, [COMMON_LANE]).quotas.get(COMMON_LANE, 0) <= 4, "one each, and that is taken"


async def test_whoever_is_next_at_a_slow_rate_stays_in_the_line() -> None:
    pace = Pace("smtp", PaceLimits(20, 15, rate=0.1))
    pace.lane(COMMON_LANE).window = 20
    first, second = (pace.stand_in_line(make_claims()) for _ in range(2))
    assert await begun(first, second) == [True, False]
    second.since -= 15  # longer than anybody waits at a full destination
    pace.admit()
    assert second.is_waiting
    second.since -= 10
    pace.admit()
    async with asyncio.timeout(1):
        with pytest.raises(NotYet):
            await second.__aenter__()


async def test_mail_for_a_destination_that_hangs_does_not_stand_in_the_line() -> None:
    pace = make_pace()
    hanging = [pace.stand_in_line(make_claims("slow.example")) for _ in range(5)]
    pace.stand_in_line(make_claims("quick.example"))
    assert all(await begun(*hanging))
    assert 0 < pace.turns(100, [COMMON_LANE, SLOW]).quotas[SLOW] <= 4, "as many as may follow soon"
    lane = pace.lane(SLOW)
    lane.succeeded_at -= 10
    for turn in hanging:
        lane.active[turn] -= 10
    quotas = pace.turns(100, [COMMON_LANE, SLOW]).quotas
    assert SLOW not in quotas
    assert quotas[COMMON_LANE] > 4, "what is left is for those that flow"


async def test_who_gives_up_leaves_no_trace_in_the_line() -> None:
    pace = make_pace(1)
    first, second, third = (pace.stand_in_line(make_claims()) for _ in range(3))
    await begun(first)
    second.give_up()
    pace.leave(first)
    assert await begun(third) == [True]


async def test_the_claims_of_a_turn_name_its_lanes_once() -> None:
    claims: Claims = make_claims("a.example", "a.example", "b.example")
    turn = Turn(make_pace(), replace(claims, lane=COMMON_LANE))
    assert turn.lanes == (COMMON_LANE, "to:a.example", "to:b.example", sender_lane(TENANT, "acme.example"))
    turn.give_up()
