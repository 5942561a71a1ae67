"""What may happen to deliveries, how often, and in which order: drawn from a seed, and cut down when it breaks a promise."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from tests.histories.deliveries_world import MOST_WORKERS, Worker, World
from tests.histories.line import Weather

STEPS = 36
CROWDED = 0.03  # so many histories have a crowd
MOST_RUNS = 150  # to make a failing history shorter

Draw: TypeAlias = Callable[[random.Random], tuple[Any, ...]]
Do: TypeAlias = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. What it needs of the world it finds there, so that steps before it may be dropped."""

    act: str
    given: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.act}({', '.join(map(str, self.given))})"


@dataclass(frozen=True, slots=True)
class Act:
    """A kind of step: how often, what is drawn for it, and how it is done."""

    weight: int
    draw: Draw
    do: Do


def draw_steps(seed: int) -> list[Step]:
    """Return the history of this seed."""
    rng = random.Random(seed)
    names, weights = list(ACTS), [act.weight for act in ACTS.values()]
    steps = [Step(name, ACTS[name].draw(rng)) for name in rng.choices(names, weights, k=STEPS)]
    if rng.random() < CROWDED:
        steps.insert(rng.randrange(STEPS), Step("a_crowd_is_lost", ()))
    return steps


async def run(world: World, seed: int, steps: Sequence[Step]) -> Exception | None:
    """Begin the world anew, let the steps happen, mend everything; return what broke."""
    random.seed(seed)  # the waits between attempts
    await world.begin()
    try:
        for step in steps:
            await ACTS[step.act].do(world, *step.given)
            await world.check()
        await world.heal()
    except Exception as error:  # noqa: BLE001 - whatever it is, the history must be shown with it
        return error
    finally:
        await world.end()
    return None


async def shorten(world: World, seed: int, steps: list[Step], broken: Exception) -> list[Step]:
    """Drop steps, many at a time and then one by one, for as long as the same thing breaks."""
    runs, size = 0, max(1, len(steps) // 2)
    while size:
        start = 0
        while start < len(steps) and runs < MOST_RUNS:
            fewer = steps[:start] + steps[start + size :]
            runs += 1
            if _is_same(await run(world, seed, fewer), broken):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def _is_same(error: Exception | None, other: Exception) -> bool:
    return type(error) is type(other) and getattr(error, "promise", None) == getattr(other, "promise", None)


def _nothing(_: random.Random) -> tuple[Any, ...]:
    return ()


def _number(rng: random.Random) -> tuple[Any, ...]:
    return (rng.randrange(60),)


def _which(rng: random.Random) -> tuple[Any, ...]:
    return (rng.randrange(MOST_WORKERS),)


def _message(rng: random.Random) -> tuple[Any, ...]:
    domains = tuple(rng.choice(("a.example", "b.example")) for _ in range(rng.choice((1, 1, 2, 3))))
    lifetime = rng.choice((None, None, None, timedelta(minutes=1), timedelta(minutes=3)))
    return domains, rng.choice(("resend", "resend", "hold")), lifetime


def _answers(rng: random.Random) -> tuple[Any, ...]:
    return tuple((rng.randrange(60), rng.randrange(60)) for _ in range(rng.randint(1, 5)))


async def _go_on(world: World, *answers: tuple[int, int]) -> None:
    for number, answer in answers:
        await world.go_on(number, answer)


async def _go_well(world: World, times: int) -> None:
    for _ in range(times):
        await world.go_well()


async def _start(world: World) -> None:
    if len(world.workers) < MOST_WORKERS:
        await world.start()


async def _lose_answer(world: World, statement: str) -> None:
    world.lose_answer(statement)


def _to_one(do: Callable[..., Awaitable[None]], *, is_paused: bool | None = None) -> Do:
    """Do it to one worker, where there is one, and where it is paused or not as that makes sense."""

    async def act(world: World, which: int, *rest: Any) -> None:
        able: list[Worker] = [worker for worker in world.workers if is_paused in (None, worker.is_paused)]
        if able:
            await do(world, able[which % len(able)], *rest)

    return act


ACTS: dict[str, Act] = {
    "accept": Act(12, _message, World.accept),
    "servers_answer": Act(24, _answers, _go_on),
    "all_goes_well": Act(6, lambda rng: (rng.randint(1, 4),), _go_well),
    "start": Act(5, _nothing, _start),
    "kill": Act(5, lambda rng: (*_which(rng), rng.random() < 0.5), _to_one(World.kill)),
    "stop": Act(2, _which, _to_one(World.stop)),
    "pause": Act(3, _which, _to_one(World.pause, is_paused=False)),
    "wake": Act(4, _which, _to_one(World.wake, is_paused=True)),
    "crash_again_and_again": Act(1, lambda rng: (rng.randint(1, 5), rng.random() < 0.5), World.crash),
    "one_oversleeps": Act(4, lambda rng: (rng.randrange(60), rng.randrange(5), rng.randrange(5)), World.oversleep),
    "an_outage": Act(
        3,
        lambda rng: (
            rng.choice((Weather.AWAY, Weather.STALLED)),
            rng.randrange(5),
            rng.choice((5.0, 25.0, 40.0)),
            rng.random() < 0.5,
        ),
        World.suffer_an_outage,
    ),
    "the_server_says_nothing": Act(3, lambda rng: (rng.randint(3, 16),), World.hear_nothing),
    "the_database_goes": Act(3, lambda rng: (rng.choice((Weather.AWAY, Weather.STALLED)),), World.change_weather),
    "the_database_is_back": Act(7, lambda _: (Weather.FAIR,), World.change_weather),
    "an_answer_is_lost": Act(
        5,
        lambda rng: (rng.choice(("claim", "commit_phases", "finish", "renew", "rescue", "release")),),
        _lose_answer,
    ),
    "claims_are_lost": Act(1, lambda rng: (rng.randint(1, 5),), World.lose_claims),
    "time_passes": Act(8, lambda rng: (rng.choice((1.0, 2.5, 10.0, 25.0, 40.0)),), World.pass_time),
    "hours_pass": Act(4, _nothing, World.let_hours_pass),
    "a_dead_letter_is_retried": Act(3, _number, World.retry),
    "a_dead_letter_is_discarded": Act(1, _number, World.discard),
    "a_crowd_is_lost": Act(0, _nothing, World.lose_a_crowd),  # takes as long as ten others: once in few histories
}
