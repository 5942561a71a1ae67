"""The database goes away while mails are at the dot, and the server takes them: each was sent once, and is known to be."""

import os
import signal
import time
from collections.abc import Callable

import anyio
import pytest

from bench.gateway import Gateway
from tests.flow.conftest import Run
from tests.flow.mailing import copies, rows, send_mails, settled, stalled_postgres, wait_until
from tests.flow.replicated import replicated
from tests.flow.tempered import Tempered, tempered_running

pytestmark = pytest.mark.anyio

WARM_UP = 60  # a route begins slowly
AT_THE_DOT = 20
LONGER_THAN_A_LEASE = 40.0


def killed(gateway: Gateway, server: Tempered) -> None:
    assert gateway.postgres.pid is not None
    os.kill(gateway.postgres.pid, signal.SIGKILL)
    server.release()
    time.sleep(2)
    while not gateway.postgres.ensure_running():
        time.sleep(0.01)


def stopped(gateway: Gateway, server: Tempered) -> None:
    assert gateway.postgres.pid is not None
    os.kill(gateway.postgres.pid, signal.SIGINT)  # a fast shutdown, as for an upgrade
    server.release()
    time.sleep(2)
    while not gateway.postgres.ensure_running():
        time.sleep(0.01)


def stalled(gateway: Gateway, server: Tempered) -> None:
    with stalled_postgres(gateway):
        server.release()
        time.sleep(LONGER_THAN_A_LEASE)


async def at_the_dot(gateway: Gateway, server: Tempered, on_doubt: str) -> None:
    """Bring mails so far that the server has taken them and has not answered."""
    send_mails(gateway, WARM_UP)
    await settled(gateway, delivered=WARM_UP)
    server.temper.silent_dot = True
    send_mails(gateway, AT_THE_DOT, on_doubt=on_doubt)
    wait_until(lambda: server.waiting_at_dot() == AT_THE_DOT, what="every mail at its dot")


async def all_once(gateway: Gateway, server: Tempered) -> None:
    """Wait until every mail is known to be delivered: none lost, none twice, none in doubt."""
    await settled(gateway, delivered=WARM_UP + AT_THE_DOT)
    assert len(server.taken) == WARM_UP + AT_THE_DOT
    assert copies(server) == {}
    assert await rows(gateway, "SELECT FROM delivery WHERE doubts > 0") == []


@pytest.mark.parametrize("on_doubt", ["resend", "hold"])
@pytest.mark.parametrize("fault", [killed, stopped, stalled])
async def test_what_was_heard_while_the_database_was_away_is_written_when_it_is_back(
    run: Run, fault: Callable[[Gateway, Tempered], None], on_doubt: str
) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        await at_the_dot(gateway, server, on_doubt)
        fault(gateway, server)
        await all_once(gateway, server)


@pytest.mark.parametrize("on_doubt", ["resend", "hold"])
async def test_what_was_heard_while_the_database_failed_over_is_written_to_the_new_primary(
    run: Run, on_doubt: str
) -> None:
    with (
        tempered_running() as server,
        run(TRANSPORT="smtp", SMTP_URL=server.url) as gateway,
        replicated(gateway) as pair,
    ):
        for part in ("api", "worker"):
            gateway.start(part, DATABASE_URL=pair.url)
        await at_the_dot(gateway, server, on_doubt)
        pair.kill_primary()
        server.release()
        await anyio.sleep(2)
        pair.promote()
        await all_once(gateway, server)


async def test_a_worker_that_is_killed_at_the_dot_leaves_one_doubt_for_each_mail_and_no_more(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        send_mails(gateway, WARM_UP)
        await settled(gateway, delivered=WARM_UP)
        server.temper.silent_dot = True
        resent, held = send_mails(gateway, 10), send_mails(gateway, 10, on_doubt="hold")
        wait_until(lambda: server.waiting_at_dot() == 20, what="every mail at its dot")
        gateway.kill("worker")
        server.release()
        gateway.start("worker-2")
        await settled(gateway, delivered=WARM_UP + len(resent), dead=len(held))
        assert set(copies(server)) == set(resent)
        assert set(copies(server).values()) == {2}


async def test_a_server_that_takes_each_mail_and_closes_is_not_fed_for_ever(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.closing_dot = True
        (message,) = send_mails(gateway, 1)
        for _ in range(100):  # its retries, and the probes of the destination, one after the other
            await rows(gateway, "UPDATE delivery SET next_attempt_at = now() WHERE state = 'queued'")
            await rows(gateway, "UPDATE pace SET probe_at = now() WHERE held_by = 'replies'")
            await anyio.sleep(0.1)
            (row,) = await rows(gateway, "SELECT state, reason, doubts FROM delivery")
            if row["state"] == "dead":
                break
        assert (row["state"], row["reason"], row["doubts"]) == ("dead", "in_doubt", 3)
        assert server.ids() == [message] * 3, "the first, and MAX_DOUBTS copies of our own doing"
