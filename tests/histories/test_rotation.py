"""Random histories of rotation, rollback, outage and death: nothing that was sealed becomes unreadable.

`make histories` runs two thousand of them; HISTORIES says how many, and a hundred are enough for CI.
"""

import asyncio
import os
import uuid
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from email_gateway.settings import load_settings
from email_gateway.store.database import Database
from email_gateway.store.migrations import migrate
from tests.conftest import at
from tests.histories.world import World, open_world
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, moto_server

HISTORIES = int(os.environ.get("HISTORIES", "100"))
STEPS = 25
MOST_PROCESSES = 3
# Few values, so that old ones come back.
KEYS = st.sampled_from([f"encryption-key-number-{number}-of-forty-chars" for number in range(5)])
SALTS = st.sampled_from([f"encryption-salt-number-{number}-of-forty-char" for number in range(3)])
NAMES = st.sampled_from(["encryption-key", "encryption-salt"])
WHICH = st.integers(min_value=0, max_value=MOST_PROCESSES - 1)


@pytest.fixture(scope="module")
def arena(postgres_url: str) -> Iterator[tuple[asyncio.Runner, World]]:
    """A world that every history begins anew, and the loop that it lives on."""
    name = f"histories_{uuid.uuid4().hex[:12]}"
    with pytest.MonkeyPatch.context() as environ, asyncio.Runner() as runner, moto_server() as url:
        for variable, value in AWS_ENVIRONMENT.items():
            environ.setenv(variable, value)
        chosen = load_settings(
            {
                "APP_ENV": "production",
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL": url,
                "SECRETS_PREFIX": name,
                "SECRETS_CACHE_SECONDS": "86400",
                "TRANSPORT": "inbox",
            }
        )
        server = runner.run(Database.connect(postgres_url, pool_size=1))
        runner.run(server.execute(f"CREATE DATABASE {name}"))
        runner.run(migrate(at(postgres_url, name)))
        world = runner.run(open_world(at(postgres_url, name), chosen, connect(url)))
        yield runner, world
        runner.run(world.db.close())
        runner.run(server.execute(f"DROP DATABASE {name} WITH (FORCE)"))
        runner.run(server.close())


class Histories(RuleBasedStateMachine):
    """What may happen, in any order. The world is begun anew by each history; the loop is kept."""

    world: ClassVar[World]
    runner: ClassVar[asyncio.Runner]

    @initialize(key=KEYS, salt=SALTS)
    def begin(self, key: str, salt: str) -> None:
        self.world.values.clear()
        self.world.pairs_tried.clear()
        self.world.pending = None
        self.do(self.world.begin(key, salt))

    @rule(key=KEYS)
    def change_key(self, key: str) -> None:
        self.world.put(key=key)

    @rule(salt=SALTS)
    def change_salt(self, salt: str) -> None:
        self.world.put(salt=salt)

    @rule(key=KEYS, salt=SALTS, which=WHICH)
    def change_both(self, key: str, salt: str, which: int) -> None:
        self.world.put(key=key)
        if self.has(which):
            self.do(self.world.refresh(self.world.processes[which]))  # between the two
        self.world.put(salt=salt)

    @rule(name=NAMES)
    def roll_back(self, name: str) -> None:
        self.world.roll_back(name)

    @rule(key=KEYS)
    def create_pending(self, key: str) -> None:
        self.world.create_pending(key)

    @precondition(lambda self: self.world.pending is not None and self.world.processes)
    @rule(which=WHICH)
    def stage_pending(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.stage_pending(self.world.processes[which]))

    @precondition(lambda self: self.world.pending is not None and self.world.pending[1] != "created")
    @rule(which=WHICH)
    def verify_pending(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.verify_pending(self.world.processes[which]))

    @precondition(lambda self: self.world.pending is not None and self.world.pending[1] == "verified")
    @rule()
    def promote_pending(self) -> None:
        self.world.promote_pending()

    @rule(which=WHICH)
    def cache_ends(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.refresh(self.world.processes[which]))

    @rule(which=WHICH)
    def look(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.processes[which].fleet.look())

    @precondition(lambda self: len(self.world.processes) < MOST_PROCESSES)
    @rule()
    def start(self) -> None:
        self.do(self.world.start())

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.kill(self.world.processes[which]))

    @rule(which=WHICH)
    def first_mail_of_a_tenant(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.make_value(self.world.processes[which]))

    @rule(which=WHICH)
    def a_field_key_is_renewed(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.renew_keys(self.world.processes[which]))

    @rule(which=WHICH)
    def outage_begins(self, which: int) -> None:
        if self.has(which):
            self.world.processes[which].line.is_cut = True

    @rule(which=WHICH)
    def outage_ends(self, which: int) -> None:
        if self.has(which):
            self.world.processes[which].line.is_cut = False

    @rule(which=WHICH)
    def retire(self, which: int) -> None:
        if self.has(which):
            self.do(self.world.retire_roots(self.world.processes[which]))

    @rule()
    def a_day_passes(self) -> None:
        self.do(self.world.let_a_day_pass())

    @invariant()
    def everything_opens(self) -> None:
        self.do(self.world.check())

    def do(self, work: Coroutine[Any, Any, object]) -> None:
        self.runner.run(work)

    def has(self, which: int) -> bool:
        return which < len(self.world.processes)

    def teardown(self) -> None:
        self.do(self.world.end())


def test_nothing_becomes_unreadable(arena: tuple[asyncio.Runner, World]) -> None:
    Histories.runner, Histories.world = arena
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
