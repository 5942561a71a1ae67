"""Workers die: others take up what they held in time and in its place, and put aside only what kills workers."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from bench.gateway import Gateway
from email_gateway.store.database import Database
from email_gateway.store.deliveries import MAX_CRASHES
from tests.flow.conftest import Run
from tests.flow.mailing import copies, rows, send_mails, settled, wait_until
from tests.flow.tempered import Tempered, tempered_running
from tests.marks import marked

pytestmark = pytest.mark.anyio

PROMISED_SECONDS = 30  # contract C4
LOST, BACKLOG = 5_000, 1_000
# What a worker leaves that died a moment after it had renewed: half was being sent, half waited for its turn.
DIE = """
    UPDATE delivery SET state = 'sending', attempts = 1, claim_token = gen_random_uuid(),
        claim_expires_at = now() + interval '20 seconds',
        phase = CASE WHEN message_id = ANY ($1::uuid[]) THEN 'connected' ELSE 'claimed' END
"""
EXPIRE_LEASES = "UPDATE delivery SET claim_expires_at = now() - interval '1 second' WHERE state = 'sending'"
# As where workers have run for a while: the first one's start begins a lease in which nobody is rescued.
STEADY = "UPDATE rescue_watch SET looked_at = now(), steady_since = now() - interval '1 hour'"
HELD = "SELECT message_id FROM delivery WHERE state = 'sending'"
LIVE = f"{HELD} AND claim_expires_at > now()"


@contextmanager
def flowing(run: Run) -> Iterator[tuple[Tempered, Gateway]]:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        yield server, gateway


async def held(gateway: Gateway) -> set[str]:
    """The messages that some worker holds, alive or not."""
    return {str(row["message_id"]) for row in await rows(gateway, HELD)}


async def crash(gateway: Gateway, worker: str) -> set[str]:
    """Kill a worker, let the leases of what it held run out, and return that."""
    gateway.kill(worker)
    lost = await held(gateway)
    await rows(gateway, EXPIRE_LEASES)
    await rows(gateway, STEADY)
    return lost


async def test_whatever_dead_workers_held_is_claimable_within_the_promised_time_and_in_its_place(run: Run) -> None:
    with flowing(run) as (server, gateway):
        server.leave()  # what is rescued stays where it can be counted
        lost = send_mails(gateway, LOST)
        await rows(gateway, DIE, lost[: LOST // 2])
        died_at = time.monotonic()
        send_mails(gateway, BACKLOG)
        for number in range(2):
            gateway.start(f"worker-{number}")
        while left := await held(gateway) & set(lost):
            assert time.monotonic() < died_at + PROMISED_SECONDS, f"{len(left)} cannot be claimed yet"
            await anyio.sleep(0.1)
        server.come_back()
        await settled(gateway, delivered=LOST + BACKLOG, seconds=180)
        places = [place for place, message in enumerate(server.ids()) if message in set(lost)]
        assert places[-1] < LOST + BACKLOG // 2
        assert copies(server) == {}


async def test_what_a_killed_worker_held_does_not_go_behind_the_backlog(run: Run) -> None:
    with flowing(run) as (server, gateway):
        send_mails(gateway, 6_000)
        gateway.start("worker")
        wait_until(lambda: len(server.taken) > 500, what="the backlog under way")
        lost = await crash(gateway, "worker")
        taken = len(server.taken)
        gateway.start("worker-2")
        await settled(gateway, delivered=6_000, seconds=120)
        again = server.ids()[taken:]
        assert lost
        assert max(again.index(message) for message in lost if message in again) < len(again) // 4
        assert set(copies(server)) <= lost, "at the dot, where nobody can know"


async def test_whoever_waits_at_a_hanging_server_is_not_blamed_for_the_deaths_of_workers(run: Run) -> None:
    with flowing(run) as (server, gateway):
        server.temper.hanging = frozenset({"example.net"})
        send_mails(gateway, 40)
        for number in range(6):
            gateway.start(f"worker-{number}")
            wait_until(lambda: bool(server.connections), what="a conversation that hangs")
            await until_live(gateway, 4)
            await crash(gateway, f"worker-{number}")
            wait_until(lambda: not server.connections, what="the end of the worker's connections")
        server.temper.hanging = frozenset()
        gateway.start("worker")
        await settled(gateway, delivered=40)
        assert await rows(gateway, "SELECT FROM delivery WHERE crashes > 0") == []


async def test_a_message_that_kills_whoever_composes_it_is_put_aside_alone_and_the_others_flow(run: Run) -> None:
    with flowing(run) as (_, gateway):
        gateway.start("worker-0")
        # Large, so that composing it takes long enough to be hit.
        large = [{"filename": "a.bin", "content": base64.b64encode(bytes(24 * 1024 * 1024)).decode()}]
        (killer,) = send_mails(gateway, 1, attachments=large, to=f"{marked('to')}@example.net")
        send_mails(gateway, 200)
        phases = ["claimed", *["composing"] * (MAX_CRASHES - 1)]
        for number, phase in enumerate(phases):
            await until_phase(gateway, killer, phase)
            await crash(gateway, f"worker-{number}")
            gateway.start(f"worker-{number + 1}")
        await settled(gateway, delivered=200, dead=1)
        (row,) = await rows(gateway, "SELECT message_id, reason FROM delivery WHERE state = 'dead'")
        assert (str(row["message_id"]), row["reason"]) == (killer, "worker_lost")
        assert await rows(gateway, "SELECT FROM delivery WHERE state = 'delivered' AND crashes > 0") == []


async def until_live(gateway: Gateway, count: int) -> None:
    """Wait until a living worker holds so many."""
    with anyio.fail_after(30):
        while len(await rows(gateway, LIVE)) < count:  # noqa: ASYNC110 - rows change in the database
            await anyio.sleep(0.05)


async def until_phase(gateway: Gateway, message: str, phase: str) -> None:
    """Wait until a living worker's attempt at this message has come so far, and return at once."""
    db = await Database.connect(gateway.postgres.url, pool_size=1)
    try:
        with anyio.fail_after(30):
            while not await db.fetch(f"{LIVE} AND message_id = $1 AND phase = $2", message, phase):  # noqa: ASYNC110
                await anyio.sleep(0.001)
    finally:
        await db.close()
