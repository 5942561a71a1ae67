"""Routes under servers with a temper: throttled, hanging, away, a wrong password; each figure beside its promise."""

import asyncio
import contextlib
import dataclasses
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.gateway import Gateway, free_port, running
from tests.flow.mailing import add_tenant, rows, send_batch, send_mails, wait_until
from tests.flow.tempered import USER, Tempered, tempered_running, throttling
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server

Say = Callable[[str], None]

THROTTLED_MAILS = 600
MOST_TIMES_IDEAL, MOST_REFUSED = 1.3, 0.05
BULK, CODES, SLOWEST_CODE_SECONDS = 20_000, 10, 2.0
DOMAINS = tuple(f"d{number}.example" for number in range(10))
HANGING = DOMAINS[3]
FLOW_SECONDS, FLOW_EVERY_SECONDS, RUNS = 15.0, 0.1, 2
MOST_SLOWED = 1.10
AWAY_MAILS, BACK_WITHIN_SECONDS = 200, 10.0
WRONG_SECONDS, MOST_LOGINS_PER_SECOND = 20.0, 0.5
# A refused login is tried again after at most a minute, with the secret read anew.
RIGHT_WITHIN_SECONDS = 65.0
PREFIX = "email-gateway"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured in `unit`; `refused` is the share of the server's answers that were refusals."""

    title: str
    unit: str
    ideal: float | None
    ours: float
    refused: float | None
    promise: str
    is_kept: bool

    @property
    def ratio(self) -> float | None:
        return self.ours / self.ideal if self.ideal else None


def measure(say: Say) -> list[Figure]:
    """Measure every promise, one after the other: about six minutes."""
    figures: list[Figure] = []
    for rate, burst in ((14, 14), (50, 100)):
        for workers, with_redis in ((1, False), (3, False), (3, True)):
            if with_redis and shutil.which("redis-server") is None:
                say("redis-server is not installed: the shared rate is not measured")
                continue
            say(f"a server of {rate} mails/s, {workers} workers{', Redis' if with_redis else ''}")
            figures.append(throttled(rate, burst, workers, with_redis=with_redis))
    for title, part in PARTS.items():
        say(title)
        figures += part()
    return figures


@contextlib.contextmanager
def flowing(*parts: str, **settings: str) -> Iterator[tuple[Tempered, Gateway]]:
    """Run a gateway that delivers to a server with a temper."""
    with tempered_running() as server, running(*parts, TRANSPORT="smtp", SMTP_URL=server.url, **settings) as gateway:
        yield server, gateway


@contextlib.contextmanager
def redis(is_wanted: bool) -> Iterator[dict[str, str]]:
    """Run a Redis where it is wanted, and yield the settings that name it."""
    if not is_wanted:
        yield {}
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="email-gateway-redis-") as folder:
        process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        finally:
            process.kill()
            process.wait()


def sql(gateway: Gateway, statement: str) -> list[Any]:
    return asyncio.run(rows(gateway, statement))


def is_uncounted(gateway: Gateway) -> bool:
    """Whether no delivery has had more than the attempt that delivered it."""
    return [row["attempts"] for row in sql(gateway, "SELECT DISTINCT attempts FROM delivery")] == [1]


def until_taken(server: Tempered, count: int, seconds: float) -> float:
    """Wait for so many mails at the server; return when the last came, or when the patience ended."""
    deadline = time.monotonic() + seconds
    while len(server.taken) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return server.taken[count - 1].at if len(server.taken) >= count else time.monotonic()


def throttled(rate: int, burst: int, workers: int, *, with_redis: bool) -> Figure:
    """Send 600 mails at once through a server that takes so many a second and refuses the rest."""
    ideal = (THROTTLED_MAILS - burst) / rate
    with redis(with_redis) as settings, flowing("api", **settings) as (server, gateway):
        server.temper.at_dot = throttling(rate, burst)
        for number in range(workers):
            gateway.start(f"worker-{number}")
        until_workers(gateway, workers)
        began = time.monotonic()
        send_mails(gateway, THROTTLED_MAILS)
        took = until_taken(server, THROTTLED_MAILS, ideal * 3) - began
        refused = server.refusals / server.commands
    return Figure(
        f"{rate}/s, {workers} worker{'s' * (workers > 1)}{', Redis' * with_redis}",
        "s",
        ideal,
        took,
        refused,
        f"{MOST_TIMES_IDEAL} x, {MOST_REFUSED:.0%}",
        took <= ideal * MOST_TIMES_IDEAL and refused <= MOST_REFUSED,
    )


def until_workers(gateway: Gateway, count: int) -> None:
    """Wait until so many workers have said that they are there."""
    wait_until(
        lambda: sql(gateway, "SELECT count(*) AS n FROM crypto_instance WHERE process = 'worker'")[0]["n"] == count,
        what="the workers",
    )


def codes_beside_bulk() -> list[Figure]:
    """Send ten codes of one tenant, one after the other, while another tenant's bulk is under way."""
    with flowing("api") as (server, gateway):
        bulk_key, gateway.api_key = gateway.api_key, add_tenant(gateway)
        codes_key, gateway.api_key = gateway.api_key, bulk_key
        send_mails(gateway, BULK)
        gateway.start("worker")
        wait_until(lambda: len(server.taken) > 500, what="the bulk under way")
        gateway.api_key = codes_key
        sent: dict[str, float] = {}
        for _ in range(CODES):
            asked = time.monotonic()
            sent[send_mails(gateway, 1)[0]] = asked
            time.sleep(0.2)
        wait_until(lambda: sent.keys() <= set(server.ids()), what="the codes")
        left = BULK + CODES - len(server.taken)
        slowest = max(taken.at - sent[taken.message_id] for taken in list(server.taken) if taken.message_id in sent)
    title = f"{CODES} codes beside {BULK:,}"
    return [
        Figure(
            title,
            "s",
            None,
            slowest,
            None,
            f"< {SLOWEST_CODE_SECONDS:.0f} s",
            slowest < SLOWEST_CODE_SECONDS and left > 0,
        )
    ]


def hanging_destination() -> list[Figure]:
    """Send to ten destinations at a steady pace, of which one hangs then; the better of two runs counts, each way."""
    with flowing("api", "worker") as (server, gateway):
        flow(server, gateway, seconds=3)  # a route begins slowly
        without = min(flow(server, gateway, seconds=FLOW_SECONDS) for _ in range(RUNS))
        server.temper.hanging = frozenset({HANGING})
        beside = min(flow(server, gateway, seconds=FLOW_SECONDS) for _ in range(RUNS))
    return [
        Figure(
            "p95 beside a hanging one",
            "ms",
            without,
            beside,
            None,
            f"{MOST_SLOWED:.1f} x",
            beside <= without * MOST_SLOWED,
        )
    ]


def flow(server: Tempered, gateway: Gateway, *, seconds: float) -> float:
    """Send one mail to each destination ten times a second; return the p95 in ms, but for the one that may hang."""
    sent: dict[str, float] = {}
    mails = [{"to": f"person@{domain}"} for domain in DOMAINS]
    begins = time.monotonic()
    for turn in range(int(seconds / FLOW_EVERY_SECONDS)):
        time.sleep(max(0.0, begins + turn * FLOW_EVERY_SECONDS - time.monotonic()))
        asked = time.monotonic()
        for domain, message in zip(DOMAINS, send_batch(gateway, mails), strict=True):
            if domain != HANGING:
                sent[message] = asked
    wait_until(lambda: sent.keys() <= set(server.ids()), what="everybody else's mail")
    times = [taken.at - sent[taken.message_id] for taken in list(server.taken) if taken.message_id in sent]
    return statistics.quantiles(times, n=100)[94] * 1000


def away() -> list[Figure]:
    """Take the smarthost away while mail waits, move the clock by an hour, and bring it back."""
    with flowing("api", "worker") as (server, gateway):
        server.leave()
        send_mails(gateway, AWAY_MAILS)
        until_held(gateway)
        # An hour of probes: their waits have grown to their longest.
        sql(gateway, "UPDATE pace SET probes = 500, since = since - interval '1 hour'")
        time.sleep(6)  # with the next probe it waits that long
        server.come_back()
        back = time.monotonic()
        took = until_taken(server, AWAY_MAILS, 60) - back
        until_written(gateway, AWAY_MAILS)
        is_kept = took <= BACK_WITHIN_SECONDS and is_uncounted(gateway)
    title = f"{AWAY_MAILS} after an hour away"
    return [Figure(title, "s", None, took, None, f"{BACK_WITHIN_SECONDS:.0f} s", is_kept)]


def until_held(gateway: Gateway) -> None:
    wait_until(lambda: bool(sql(gateway, "SELECT FROM pace WHERE state = 'held'")), what="a held route")


def until_written(gateway: Gateway, count: int) -> None:
    wait_until(
        lambda: sql(gateway, "SELECT count(*) AS n FROM delivery WHERE state = 'delivered'")[0]["n"] == count,
        what="the results",
    )


def wrong_password() -> list[Figure]:
    """Log in with a password that was changed, then put the right one into the secret."""
    values = {name: f"only-for-the-bench-{name}-0123456789abcdef" for name in ("encryption-key", "encryption-salt")}
    values["admin-api-key"] = "only-for-the-bench-admin-api-key-0123456789"
    with tempered_running(needs_login=True) as server, moto_server() as moto:
        create_secrets(connect(moto), PREFIX, {**values, "smtp-url": url_with(server, "a-former-password")})
        settings = {
            **AWS_ENVIRONMENT,
            **dict.fromkeys(("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY"), ""),
            "USE_SECRETS_MANAGER": "true",
            "SECRETS_PREFIX": PREFIX,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": moto,
        }
        with running("api", "worker", TRANSPORT="smtp", **settings) as gateway:
            send_mails(gateway, AWAY_MAILS)
            until_held(gateway)
            time.sleep(WRONG_SECONDS)
            logins = len(server.logins) / WRONG_SECONDS
            connect(moto).put_secret_value(
                SecretId=f"{PREFIX}/smtp-url", SecretString=url_with(server, server.temper.password)
            )
            changed = time.monotonic()
            took = until_taken(server, AWAY_MAILS, RIGHT_WITHIN_SECONDS * 2) - changed
            until_written(gateway, AWAY_MAILS)
            is_kept = took <= RIGHT_WITHIN_SECONDS and is_uncounted(gateway)
    return [
        Figure(
            "logins, wrong password",
            "/s",
            None,
            logins,
            None,
            f"{MOST_LOGINS_PER_SECOND}/s",
            logins <= MOST_LOGINS_PER_SECOND,
        ),
        Figure(
            f"{AWAY_MAILS}, right password",
            "s",
            None,
            took,
            None,
            f"{RIGHT_WITHIN_SECONDS:.0f} s",
            is_kept,
        ),
    ]


def url_with(server: Tempered, password: str) -> str:
    return f"smtp://{USER}:{password}@127.0.0.1:{server.port}?tls=none"


PARTS: dict[str, Callable[[], list[Figure]]] = {
    "codes beside bulk": codes_beside_bulk,
    "a destination that hangs": hanging_destination,
    "a smarthost that is away": away,
    "a wrong password": wrong_password,
}


def table_of(figures: Sequence[Figure]) -> Table:
    """Set each figure beside the ideal and its promise."""
    table = Table(title="Routes under servers with a temper", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in ("", "ideal", "ours", "ratio", "refused", "promise", ""):
        is_figure = column in ("ideal", "ours", "ratio", "refused")
        table.add_column(column, justify="right" if is_figure else "left", no_wrap=True)
    table.caption = (
        f"{THROTTLED_MAILS} mails at 14/s in bursts of 14, at 50/s of 100. The slowest of the codes. Nine destinations "
        "beside a tenth that hangs, at 100 mails/s, against the same without. Hour and password: no attempt burnt."
    )
    for figure in figures:
        table.add_row(
            figure.title,
            "" if figure.ideal is None else f"{figure.ideal:.1f} {figure.unit}",
            f"{figure.ours:.1f} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:.2f} x",
            "" if figure.refused is None else f"{figure.refused:.1%}",
            figure.promise,
            "[green]met" if figure.is_kept else "[red]missed",
        )
    return table


def as_plain(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return what the table shows, for machines."""
    return [dataclasses.asdict(figure) | {"ratio": figure.ratio} for figure in figures]


def exit_code(figures: Sequence[Figure]) -> int:
    """Return 1 when a promise was missed, else 0."""
    return int(not all(figure.is_kept for figure in figures))
