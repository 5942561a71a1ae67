"""Servers with a temper: away, refusing the password, full, hanging for one domain; the mail waits and then flows."""

import time
from datetime import timedelta

import anyio
import pytest

from bench.gateway import Gateway
from tests.flow.conftest import Run
from tests.flow.mailing import add_tenant, copies, rows, send_batch, send_mails, settled, wait_until
from tests.flow.tempered import tempered_running, throttling
from tests.marks import marked

pytestmark = pytest.mark.anyio


async def attempts(gateway: Gateway) -> list[int]:
    """The different numbers of attempts that deliveries have had."""
    found = await rows(gateway, "SELECT DISTINCT attempts FROM delivery ORDER BY attempts")
    return [row["attempts"] for row in found]


async def held(gateway: Gateway) -> list[tuple[str, str]]:
    """What is held, and why."""
    return [
        (row["lane"], row["reason"])
        for row in await rows(gateway, "SELECT lane, reason FROM pace WHERE state = 'held'")
    ]


async def until_held(gateway: Gateway, *wanted: tuple[str, str]) -> None:
    deadline = time.monotonic() + 30
    while (found := await held(gateway)) != list(wanted):
        assert time.monotonic() < deadline, f"held is {found}"
        await anyio.sleep(0.1)


async def test_mail_for_a_smarthost_that_was_away_flows_when_it_is_back_and_no_attempt_is_burnt(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.leave()
        send_mails(gateway, 200)
        await until_held(gateway, ("", "connect_failed"))
        # An hour: the waits of the probes have grown to their longest.
        await rows(gateway, "UPDATE pace SET probes = 500, since = since - interval '1 hour'")
        await anyio.sleep(2)
        server.come_back()
        await settled(gateway, delivered=200, seconds=15)
        assert await attempts(gateway) == [1]
        assert copies(server) == {}


async def test_a_wrong_password_is_a_login_now_and_then_and_the_right_one_needs_no_restart(run: Run) -> None:
    with tempered_running(needs_login=True) as server:
        url = server.url
        server.temper.password = "changed-on-the-server"
        with run("api", "worker", TRANSPORT="smtp", SMTP_URL=url) as gateway:
            send_mails(gateway, 300)
            await until_held(gateway, ("", "auth_failed"))
            await anyio.sleep(5)
            assert 2 <= len(server.logins) <= 5, "at once, after a second, after two more, then ever less"
            server.temper.password = "the-right-password"
            await settled(gateway, delivered=300)
            assert await attempts(gateway) == [1]


@pytest.mark.parametrize(
    "reply",
    [
        b"454 4.7.0 Sending paused for this account\r\n",
        b"554 5.7.1 Service unavailable; Client host blocked using a blocklist\r\n",
        b"550 5.4.5 Daily user sending limit exceeded\r\n",
    ],
)
async def test_a_reply_that_speaks_of_us_bounces_nobody(run: Run, reply: bytes) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.at_dot = lambda _recipients: reply
        send_mails(gateway, 50)
        wait_until(lambda: server.refusals > 0, what="a refusal")
        await anyio.sleep(1)
        assert [lane for lane, _ in await held(gateway)] == [""]
        assert server.refusals <= 4, "the others do not learn it by failing"
        server.temper.at_dot = lambda _recipients: None
        await rows(gateway, "UPDATE pace SET probe_at = now()")  # as `queue flush` does
        await settled(gateway, delivered=50)
        assert await attempts(gateway) == [1]


@pytest.mark.parametrize(("rate", "burst"), [(14, 14), (50, 100)])
@pytest.mark.parametrize("workers", [1, 3])
async def test_a_server_that_throttles_is_fed_at_its_pace(run: Run, rate: int, burst: int, workers: int) -> None:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.at_dot = throttling(rate, burst)
        count = rate * 8
        send_mails(gateway, count)
        for number in range(workers):
            gateway.start(f"worker-{number}")
        await settled(gateway, delivered=count, seconds=60)
        assert await attempts(gateway) == [1], "a throttle speaks of the route, and costs no attempt"
        assert server.refusals <= server.commands * 0.05
        assert copies(server) == {}


async def test_recipients_beyond_the_servers_limit_follow_in_the_next_transaction(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.most_recipients = 2
        to = [f"{marked('to')}@example.net" for _ in range(5)]
        send_mails(gateway, 1, to=to)
        await settled(gateway, delivered=5, seconds=10)
        assert [len(taken.recipients) for taken in server.taken] == [2, 2, 1]
        assert await attempts(gateway) == [1]
        refusals = server.refusals
        send_mails(gateway, 1, to=to)
        await settled(gateway, delivered=10, seconds=10)
        assert server.refusals == refusals, "the limit is remembered"


async def test_what_was_deferred_together_is_tried_together(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.at_dot = lambda _recipients: b"451 4.2.1 mailbox busy, try again\r\n"
        send_mails(gateway, 1, to=[f"{marked('to')}@example.net" for _ in range(10)])
        wait_until(lambda: server.refusals > 0, what="a deferral")
        await anyio.sleep(1)
        (row,) = await rows(
            gateway, "SELECT count(DISTINCT next_attempt_at) AS places, max(attempts) AS attempts FROM delivery"
        )
        assert (row["places"], row["attempts"]) == (1, 1)
        server.temper.at_dot = lambda _recipients: None
        await rows(gateway, "UPDATE delivery SET next_attempt_at = now()")
        await settled(gateway, delivered=10)
        assert [len(taken.recipients) for taken in server.taken] == [10]


async def test_a_code_that_lives_for_a_minute_is_tried_several_times_within_it(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        server.temper.at_dot = lambda _recipients: b"450 4.2.0 greylisted\r\n"
        send_mails(gateway, 1, expires_after=60)
        for attempt in range(1, 5):
            wait_until(lambda attempt=attempt: server.refusals >= attempt, what=f"attempt {attempt}")  # type: ignore[misc]
            await anyio.sleep(0.5)
            (row,) = await rows(gateway, "SELECT state, next_attempt_at - now() AS wait FROM delivery")
            assert row["state"] == "queued"
            assert row["wait"] < timedelta(seconds=25)
            # The time until its next try passes for the message too.
            await rows(gateway, "UPDATE message SET expires_at = expires_at - $1::interval", row["wait"])
            await rows(gateway, "UPDATE delivery SET next_attempt_at = now() WHERE state = 'queued'")


async def test_the_codes_of_one_tenant_do_not_wait_behind_the_bulk_of_another(run: Run) -> None:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        bulk = set(send_mails(gateway, 3000))
        other = add_tenant(gateway)
        gateway.start("worker")
        wait_until(lambda: len(server.taken) > 100, what="the bulk under way")
        codes = set(send_mails_as(gateway, other, 10))
        wait_until(lambda: codes <= set(server.ids()), what="the codes")
        last_code = max(place for place, taken in enumerate(server.taken) if taken.message_id in codes)
        assert len(bulk - {taken.message_id for taken in server.taken[:last_code]}) > 1500


async def test_urgent_mail_of_a_tenant_goes_before_its_bulk(run: Run) -> None:
    with tempered_running() as server, run("api", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        send_mails(gateway, 500)
        urgent = set(send_mails(gateway, 10, priority="high"))
        gateway.start("worker")
        await settled(gateway, delivered=510)
        places = [place for place, taken in enumerate(server.taken) if taken.message_id in urgent]
        assert max(places) < 60


async def test_a_destination_that_hangs_keeps_nobody_elses_mail(run: Run) -> None:
    with tempered_running() as server, run("api", "worker", TRANSPORT="smtp", SMTP_URL=server.url) as gateway:
        each = [{"to": f"{marked('to')}@d{domain}.example"} for domain in range(10)]
        for _ in range(40):
            send_batch(gateway, each)
        await settled(gateway, delivered=400)  # its window is as wide as it gets
        server.temper.hanging = frozenset({"d3.example"})
        for _ in range(150):  # one after the other: what waits for the tenth must not fill the line before the nine
            send_batch(gateway, each)
            await anyio.sleep(0.05)
        wait_until(lambda: len(server.taken) == 400 + 9 * 150, what="everybody else's mail")


def send_mails_as(gateway: Gateway, api_key: str, count: int) -> list[str]:
    """Accept mails of another tenant."""
    own, gateway.api_key = gateway.api_key, api_key
    try:
        return send_mails(gateway, count)
    finally:
        gateway.api_key = own
