"""An operator holds mail while it flows, restarts a worker, releases, flushes; what is late ends behind a hold."""

import json
import time

import anyio
import pytest

from bench.gateway import Gateway
from tests.flow.conftest import Run
from tests.flow.mailing import copies, rows, send_mails, settled, states, wait_until
from tests.flow.tempered import Tempered, tempered_running
from tests.marks import marked

pytestmark = pytest.mark.anyio

WHY = ("--reason", "ticket 4711")


def nothing_leaves(server: Tempered, *, for_seconds: float) -> None:
    """Look for so long; workers look at what is held four times a second."""
    taken, until = len(server.taken), time.monotonic() + for_seconds
    while time.monotonic() < until:
        assert len(server.taken) == taken, "mail left although an operator holds it"
        time.sleep(0.05)


async def until_nothing_is_under_way(gateway: Gateway) -> None:
    deadline = time.monotonic() + 20
    while (await states(gateway)).get("sending", 0):
        assert time.monotonic() < deadline, "what was under way does not end"
        await anyio.sleep(0.05)


async def attempts(gateway: Gateway) -> list[int]:
    found = await rows(gateway, "SELECT DISTINCT attempts FROM delivery ORDER BY attempts")
    return [row["attempts"] for row in found]


async def test_nothing_leaves_while_an_operator_holds_the_route_and_all_flows_after_release(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        send_mails(gateway, 2000)
        wait_until(lambda: len(server.taken) > 50, what="mail under way")
        gateway.command("queue", "hold", "--route", "smtp", *WHY)
        await until_nothing_is_under_way(gateway)
        assert len(server.taken) < 2000, "there is something to hold"
        nothing_leaves(server, for_seconds=2)

        # A worker that starts knows what is held before it takes its first mail; one that was killed too.
        gateway.kill("worker")
        gateway.start("worker")
        gateway.start("worker-2")
        send_mails(gateway, 100)
        nothing_leaves(server, for_seconds=4)
        assert set(await attempts(gateway)) <= {0, 1}, "held mail costs no attempt"

        gateway.command("queue", "release", "--route", "smtp")
        await settled(gateway, delivered=2100)
        assert await attempts(gateway) == [1]
        assert copies(server) == {}


async def test_a_destination_and_a_sender_that_are_held_keep_nobody_elses_mail(run: Run) -> None:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        gateway.command("queue", "hold", "--to", "held.example", *WHY)
        gateway.command("queue", "hold", "--from", "shop.example", "--tenant", "bench", *WHY)
        to_held = set(send_mails(gateway, 50, to=f"{marked('to')}@held.example"))
        from_held = set(send_mails(gateway, 50, **{"from": "offers@shop.example"}))
        gateway.start("worker")
        free = set(send_mails(gateway, 200))
        wait_until(lambda: free <= set(server.ids()), what="everybody else's mail")
        nothing_leaves(server, for_seconds=1)

        gateway.command("queue", "release", "--to", "held.example")
        wait_until(lambda: to_held <= set(server.ids()), what="the mail to the destination")
        assert not from_held & set(server.ids())
        gateway.command("queue", "release", "--from", "shop.example", "--tenant", "bench")
        await settled(gateway, delivered=300)
        assert await attempts(gateway) == [1]


async def test_flush_probes_at_once_what_replies_hold(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.at_dot = lambda _recipients: b"454 4.7.0 Sending paused for this account\r\n"
        send_mails(gateway, 1)
        wait_until(lambda: server.refusals > 0, what="a refusal")
        (lane,) = await wait_for_lanes(gateway)
        assert (lane["held_by"], lane["reason"]) == ("replies", "account_suspended")
        # Five failed probes later; without a flush nothing would happen for minutes.
        await rows(gateway, "UPDATE pace SET probes = 9, probe_at = now() + interval '5 minutes'")
        server.temper.at_dot = lambda _recipients: None
        nothing_leaves(server, for_seconds=2)
        gateway.command("queue", "flush")
        await settled(gateway, delivered=1, seconds=15)
        assert await attempts(gateway) == [1], "neither the refusal nor the flush is an attempt"


async def test_what_runs_out_of_time_behind_a_hold_ends_there(run: Run) -> None:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        gateway.command("queue", "hold", "--all", *WHY)
        gateway.start("worker")  # one that ran before would follow within a second, and the mails are quicker
        send_mails(gateway, 3, expires_after=60)
        send_mails(gateway, 2)
        for table in ("message", "delivery"):  # their minute passes
            await rows(
                gateway,
                f"UPDATE {table} SET expires_at = now() WHERE expires_at < now() + interval '1 hour'",
            )
        await settled(gateway, expired=3, queued=2, seconds=15)
        assert server.taken == []


async def wait_for_lanes(gateway: Gateway) -> list[dict[str, str]]:
    deadline = time.monotonic() + 20
    while not (lanes := json.loads(gateway.command("queue", "--json"))["lanes"]):
        assert time.monotonic() < deadline, "nothing is held"
    return list(lanes)
