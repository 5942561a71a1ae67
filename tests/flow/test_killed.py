"""Everything is killed while mail flows: nothing is lost, and duplicates are only where a dot was pending."""

import asyncio
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.gateway import HTTP, Gateway, free_port
from email_gateway.store.database import Database
from tests.flow.conftest import Run
from tests.marks import marked
from tests.plugins.system_packages import get_program

pytestmark = [pytest.mark.anyio, pytest.mark.needs("smtp-sink")]

MAILS = 2_000
CLIENTS = 8
VICTIMS = ("worker", "api", "postgres", "worker", "postgres", "api")
# A claim of a worker that died ends after 20 s and is found within 5 s; then its mail is sent.
DRAINED_WITHIN_SECONDS = 90
MESSAGE_ID = re.compile(rb"^Message-ID: <([0-9a-f-]{36})@", re.MULTILINE | re.IGNORECASE)


@contextlib.contextmanager
def capturing_sink() -> Iterator[tuple[int, Path, subprocess.Popen[bytes]]]:
    """A smtp-sink that keeps every message it takes in a file; yield its port, the folder and its process."""
    folder = Path(tempfile.mkdtemp(prefix="email-gateway-sink-"))
    folder.chmod(0o777)
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    sink = subprocess.Popen(
        [get_program("smtp-sink"), *user, "-d", f"{folder}/%M.", f"127.0.0.1:{port}", "1024"], cwd=folder
    )
    try:
        yield port, folder, sink
    finally:
        sink.kill()
        sink.wait()
        shutil.rmtree(folder)


class Callers:
    """Clients that send until the gateway has answered 202 for every mail, whatever happens to it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pending = collections.deque(range(MAILS))
        self.accepted: dict[int, str] = {}
        self.refused: collections.Counter[int] = collections.Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until so many mails have been accepted."""
        deadline = time.monotonic() + 60
        while len(self.accepted) < count:
            assert not self.refused, f"only 503 asks to be repeated, but these statuses came: {dict(self.refused)}"
            assert time.monotonic() < deadline, f"only {len(self.accepted)} of {count} mails were accepted"
            self._gateway.tend()
            time.sleep(0.01)

    def _run(self) -> None:
        with contextlib.suppress(IndexError):
            while not self.refused:
                number = self._pending.popleft()
                request = self._request()
                while not self.refused and number not in self.accepted:
                    self._send(number, request)

    def _request(self) -> urllib.request.Request:
        body = {
            "from": f"{marked('from')}@example.com",
            "to": f"{marked('to')}@example.net",
            "subject": marked("subject"),
            "text": marked("text"),
        }
        headers = {
            "Authorization": f"Bearer {self._gateway.api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": marked("key"),
        }
        return urllib.request.Request(f"{self._gateway.url}/emails", json.dumps(body).encode(), headers)

    def _send(self, number: int, request: urllib.request.Request) -> None:
        try:
            with HTTP.open(request, timeout=10) as answer:
                self.accepted[number] = str(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            if error.code != 503:
                self.refused[error.code] += 1
        except OSError:
            time.sleep(0.1)  # refused, reset, cut off: the key makes repeating safe


async def test_nothing_is_lost_when_worker_api_and_postgres_are_killed(run: Run) -> None:
    with (
        capturing_sink() as (port, folder, sink),
        run("api", "worker", TRANSPORT="smtp", SMTP_URL=f"smtp://127.0.0.1:{port}?tls=none") as gateway,
    ):
        callers = Callers(gateway)
        callers.start()
        for turn, victim in enumerate(VICTIMS, start=1):
            callers.wait_for(turn * MAILS // (len(VICTIMS) + 2))
            # A sink that answers nothing for a moment: mail is under way when the blow falls.
            sink.send_signal(signal.SIGSTOP)
            await under_way(gateway)
            if victim == "postgres":
                gateway.kill_postgres()
            else:
                gateway.kill(victim)
                gateway.start(victim)
            sink.send_signal(signal.SIGCONT)
        callers.wait_for(MAILS)
        db = await Database.connect(gateway.postgres.url, pool_size=1)
        await drained(db, gateway)
        doubts = {str(row[0]): row[1] for row in await db.fetch("SELECT message_id, doubts FROM delivery")}
        events = {row[0]: row[1] for row in await db.fetch("SELECT kind, count(*) FROM event GROUP BY kind")}
        (books,) = await db.fetch("SELECT * FROM conservation")
        await db.close()
        received = receipts(folder)
    accepted = set(callers.accepted.values())
    lost = accepted - set(received)
    twice = {message_id: count for message_id, count in received.items() if count > 1}
    counts = (
        f"{len(lost)} lost, {sum(twice.values()) - len(twice)} duplicates, {sum(doubts.values())} in doubt; {events}"
    )
    print(counts)
    assert not lost, counts
    assert {message_id for message_id, count in twice.items() if count - 1 > doubts[message_id]} == set(), counts
    assert (books["accepted"], books["delivered"], books["difference"]) == (MAILS, MAILS, 0), counts
    assert len(accepted) == len(doubts) == MAILS, counts
    assert events.get("rescued", 0) + events.get("in_doubt", 0) > 0, f"nothing was killed while it was sent: {counts}"


async def under_way(gateway: Gateway) -> None:
    """Wait until the worker holds deliveries."""
    db = await Database.connect(gateway.postgres.url, pool_size=1)
    async with asyncio.timeout(30):
        # The rows change in the database; there is nothing to await but time.
        while not await db.fetch("SELECT FROM delivery WHERE state = 'sending' LIMIT 1"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await db.close()


async def drained(db: Database, gateway: Gateway) -> None:
    """Wait until nothing is queued or being sent; what waits for a later attempt is made due."""
    deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
    while unfinished := await db.fetch(
        "SELECT state, reason, count(*) FROM delivery WHERE state IN ('queued', 'sending') GROUP BY state, reason"
    ):
        assert time.monotonic() < deadline, f"deliveries are stuck: {[tuple(row) for row in unfinished]}"
        await db.execute("UPDATE delivery SET next_attempt_at = now() WHERE next_attempt_at > now()")
        gateway.tend()
        await asyncio.sleep(0.2)


def receipts(folder: Path) -> collections.Counter[str]:
    """Count how often each message arrived, by its Message-ID."""
    found: collections.Counter[str] = collections.Counter()
    for file in folder.iterdir():
        found.update(match.decode() for match in MESSAGE_ID.findall(file.read_bytes()))
    return found
