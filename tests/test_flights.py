"""Loads that are shared: one at a time for each name, and nobody's failure but their own."""

import asyncio

import pytest

from email_gateway.flights import Flights, NextFlight

pytestmark = pytest.mark.anyio


async def test_callers_of_one_name_share_one_load() -> None:
    flights, loads, gate = Flights[str, str](), list[str](), asyncio.Event()

    async def load(name: str) -> str:
        loads.append(name)
        await gate.wait()
        return name.upper()

    waiting = [asyncio.create_task(flights.join(name, lambda name=name: load(name))) for name in "aabaa"]  # type: ignore[misc]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiting) == ["A", "A", "B", "A", "A"]
    assert loads == ["a", "b"]
    assert await flights.join("a", lambda: load("a")) == "A"
    assert loads == ["a", "b", "a"]


async def test_who_comes_when_a_load_has_just_ended_begins_another() -> None:
    flights, loads = Flights[str, int](), list[None]()

    async def load() -> int:
        loads.append(None)
        return len(loads)

    first = asyncio.create_task(flights.join("a", load))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the load is done, and nobody has been told yet
    assert loads == [None]
    assert not first.done()
    # Who loops until a load is to its liking would otherwise meet this one for ever, and nobody else would ever run.
    assert await flights.join("a", load) == 2
    assert await first == 1


async def test_a_failure_reaches_all_who_waited_and_is_forgotten() -> None:
    flights = Flights[str, int]()

    async def fail() -> int:
        raise KeyError("gone")

    async def succeed() -> int:
        return 1

    results = await asyncio.gather(*(flights.join("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [KeyError] * 3
    assert await flights.join("a", succeed) == 1


async def test_a_caller_that_leaves_does_not_stop_the_load() -> None:
    flights, gate = Flights[str, int](), asyncio.Event()

    async def load() -> int:
        await gate.wait()
        return 7

    leaving, staying = (asyncio.create_task(flights.join("a", load)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    assert await staying == 7


async def test_who_asks_during_a_run_shares_the_next_one() -> None:
    flight, runs, gate = NextFlight(), list[int](), asyncio.Event()

    async def run() -> None:
        runs.append(len(runs))
        await gate.wait()

    first = asyncio.create_task(flight.join(run))
    await asyncio.sleep(0)
    others = [asyncio.create_task(flight.join(run)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    assert await first is True
    assert sorted(await asyncio.gather(*others)) == [False] * 4 + [True]
    assert runs == [0, 1]


async def test_a_run_that_fails_counts_for_nobody() -> None:
    flight, results = NextFlight(), iter([True, False, False])

    async def run() -> None:
        await asyncio.sleep(0)
        if next(results):
            raise RuntimeError

    outcomes = await asyncio.gather(*(flight.join(run) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, bool, bool]
    assert outcomes[1:] == [True, False]
