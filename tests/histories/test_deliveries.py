"""Random histories of deaths, outages, stalls and a server's moods: contracts C2, C3 and C4 hold after every step.

`make histories` runs two thousand of them; HISTORIES says how many, and a hundred are enough for CI. One that
fails prints its seed and its steps, without those that it fails without; HISTORY=seed runs it alone.
"""

import asyncio
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from email_gateway.errors import DatabaseUnavailable
from email_gateway.events import Recorder, Written
from email_gateway.mail.deliveries import Claims
from email_gateway.queue import Queue
from email_gateway.settings import load_settings
from email_gateway.store import deliveries
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Result
from email_gateway.store.migrations import migrate
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.conftest import KEY, SALT, at
from tests.given_roots import only
from tests.histories.accidents import Step, draw_steps, run, shorten
from tests.histories.deliveries_world import LOGINS, World
from tests.histories.journal import CLOCK, JOURNAL, NAMES, OFTEN_WRITTEN
from tests.histories.line import Weather
from tests.histories.promises import Broken
from tests.histories.virtual_time import VirtualTime

if TYPE_CHECKING:
    from tests.plugins.marks import Watch

GIVEN = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "an-admin-key-of-more-than-32-characters"}


@pytest.fixture(scope="module")
def arena(postgres_url: str, watch: "Watch") -> Iterator[tuple[asyncio.Runner, World]]:
    """A world that every history begins anew, and the loop that it lives on."""
    name, password = f"histories_{uuid.uuid4().hex[:12]}", secrets.token_hex(12)
    watch.add("a role's password", password)
    virtual = VirtualTime()
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=virtual.make_loop) as runner:
        patch.setattr(time, "monotonic", virtual.monotonic)
        server = runner.run(Database.connect(postgres_url, pool_size=1))
        runner.run(create_database(server, name, at(postgres_url, name)))
        logins = [f"{name}_{number}" for number in range(LOGINS)]
        for login in logins:
            runner.run(server.execute(f"CREATE ROLE {login} SUPERUSER LOGIN PASSWORD '{password}'"))
        world = runner.run(open_world(at(postgres_url, name), logins, password, virtual))
        yield runner, world
        runner.run(world.close())
        runner.run(server.execute(f"DROP DATABASE {name} WITH (FORCE)"))
        for login in logins:
            runner.run(server.execute(f"DROP ROLE {login}"))
        runner.run(server.close())


async def create_database(server: Database, name: str, url: str) -> None:
    """A migrated database that lives by our clock and keeps a journal."""
    await server.execute(f"CREATE DATABASE {name}")
    await server.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    db = await Database.connect(url, pool_size=1)
    await db.execute(CLOCK)
    await migrate(url)
    await db.execute(JOURNAL)
    for table in OFTEN_WRITTEN:
        await db.execute(f"ALTER TABLE IF EXISTS {table} SET UNLOGGED")
    await db.close()


async def open_world(url: str, logins: list[str], password: str, virtual: VirtualTime) -> World:
    """Connect everybody, each worker with a login of its own."""
    db = await Database.connect(url, pool_size=2)
    rest = url.rpartition("@")[2]
    lines = {login: await Database.connect(f"postgresql://{login}:{password}@{rest}", pool_size=2) for login in logins}
    chosen = load_settings({**GIVEN, "WORKER_CONCURRENCY": "20", "FIELD_KEY_DAYS": "0"})
    return World(virtual, db, lines, await Keyring.start(db, only(derive_root(KEY, SALT))), chosen)


def test_every_delivery_keeps_its_promises(arena: tuple[asyncio.Runner, World]) -> None:
    runner, world = arena
    for number, seed in enumerate(seeds(), start=1):
        steps = draw_steps(seed)
        if (broken := runner.run(run(world, seed, steps))) is not None:
            story = "\n".join(map(str, runner.run(shorten(world, seed, steps, broken))))
            raise AssertionError(
                f"HISTORY={seed}, the {number}th, broke: {broken!r}\nThis is enough:\n{story}"
            ) from broken


def seeds() -> Iterable[int]:
    """Return the seeds to run: the one that was asked for, or as many new ones as HISTORIES says."""
    if one := os.environ.get("HISTORY"):
        return [int(one)]
    first = secrets.randbelow(10**9)
    return range(first, first + int(os.environ.get("HISTORIES", "100")))


async def write_once(recorder: Recorder, _claims: Claims, results: list[Result]) -> Written:
    """Throw away what the database did not take."""
    try:
        return await recorder._group.submit(results)
    except DatabaseUnavailable:
        return {}


async def rescue_once(queue: Queue) -> None:
    """Leave to the next round whatever one rescue does not take."""
    await deliveries.rescue(queue._db, max_doubts=queue._max_doubts, lease_for=queue._lease_for)


def blame_all(patch: pytest.MonkeyPatch) -> None:
    """Let every lost claim count as a death, and nobody be composed alone."""
    rescue = re.sub(r"CASE WHEN phase = 'composing' THEN crashes \+ 1.*? END AS crashes", "crashes + 1 AS crashes",
                    deliveries.SQL.rescue, flags=re.DOTALL)  # fmt: skip
    for now, then in (
        ("phase IN ('claimed', 'composing') AS is_suspect", "false AS is_suspect"),
        ("WHEN phase = 'composing' AND delivery.crashes + 1 >= $1", "WHEN crashes + 1 >= $1"),
    ):
        assert now in rescue
        rescue = rescue.replace(now, then)
    patch.setattr(deliveries.SQL, "rescue", rescue)
    patch.setitem(NAMES, rescue, "rescue")  # the journal knows a query by its text


@dataclass(frozen=True, slots=True)
class Fault:
    """Something the first release did, the promises that it breaks, and what must happen for it to be seen."""

    promises: set[str]
    put_back: Callable[[pytest.MonkeyPatch, World], None]
    story: list[Step]


# By case. Random histories found each (the 4th, the 27th, the 85th and the 204th that were drawn); these are what
# `shorten` left of them.
FAULTS = {
    "17, what was heard is thrown away": Fault(
        {"kept", "living"},
        lambda patch, _: patch.setattr(Recorder, "_write", write_once),
        [
            Step("accept", (("b.example",), "hold", timedelta(seconds=180))),
            Step("servers_answer", ((40, 53), (36, 17))),
            Step("an_outage", (Weather.AWAY, 3, 5.0, True)),
            Step("an_outage", (Weather.AWAY, 3, 40.0, False)),
        ],
    ),
    "18, doubts without an end": Fault(
        {"bounded"},
        lambda patch, world: patch.setattr(world, "_settings", replace(world._settings, max_doubts=40)),
        [
            Step("accept", (("a.example", "b.example", "b.example"), "resend", None)),
            Step("all_goes_well", (2,)),
            Step("servers_answer", ((14, 29), (39, 39), (5, 11), (59, 56), (5, 31))),
            Step("the_server_says_nothing", (12,)),
        ],
    ),
    "20, orphans by five hundred": Fault(
        {"orphans"},
        lambda patch, _: patch.setattr(Queue, "_rescue", rescue_once),
        [Step("kill", (2, True)), Step("a_crowd_is_lost", ())],
    ),
    "22, whoever was held is blamed": Fault(
        {"innocents"},
        lambda patch, _: blame_all(patch),
        [
            Step("accept", (("a.example",), "resend", None)),
            Step("accept", (("a.example", "b.example"), "resend", None)),
            Step("crash_again_and_again", (5, True)),
        ],
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_histories_find_what_the_first_release_did(arena: tuple[asyncio.Runner, World], case: str) -> None:
    runner, world = arena
    fault = FAULTS[case]
    with pytest.MonkeyPatch.context() as patch:
        fault.put_back(patch, world)
        broken = runner.run(run(world, 0, fault.story))
    assert isinstance(broken, Broken), f"it went well: {broken!r}"
    assert broken.promise in fault.promises
    assert runner.run(run(world, 0, fault.story)) is None, "without the fault it goes well"
