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

from bench.gateway import Gateway, free_port, running
from email_gateway.store.database import Database
from tests.plugins.system_packages import get_program

pytestmark = [pytest.mark.anyio, pytest.mark.needs("smtp-sink")]

MAILS = 2_000
CLIENTS = 8
DRAINED_WITHIN_SECONDS = 120
MESSAGE_ID = re.compile(rb"^Message-ID: <([0-9a-f-]{36})@", re.MULTILINE | re.IGNORECASE)


@contextlib.contextmanager
def capturing_sink() -> Iterator[tuple[int, Path]]:
    """A smtp-sink that keeps every message it takes in a file; yield its port and the folder."""
    folder = Path(tempfile.mkdtemp(prefix="email-gateway-sink-"))
    folder.chmod(0o777)
    port = free_port()
    sink = subprocess.Popen(
        [get_program("smtp-sink"), "-u", "nobody", "-d", f"{folder}/%M.", f"127.0.0.1:{port}", "1024"], cwd=folder
    )
    try:
        yield port, folder
    finally:
        sink.terminate()
        sink.wait()
        shutil.rmtree(folder)


class Callers:
    """Clients that send until the gateway has answered 202 for every mail, whatever happens to it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pending = collections.deque(range(MAILS))
        self.accepted: dict[int, str] = {}
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
        assert len(self.accepted) == MAILS

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.accepted) < count:
            assert time.monotonic() < deadline, f"only {len(self.accepted)} of {count} mails were accepted"
            time.sleep(0.01)

    def _run(self) -> None:
        while True:
            try:
                number = self._pending.popleft()
            except IndexError:
                return
            while (message_id := self._send(number)) is None:
                time.sleep(0.1)
            self.accepted[number] = message_id

    def _send(self, number: int) -> str | None:
        body = {"from": "a@example.com", "to": f"person{number}@example.net", "subject": str(number), "text": "x"}
        request = urllib.request.Request(
            f"{self._gateway.url}/emails",
            data=json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._gateway.api_key}",
                "Content-Type": "application/json",
                "Idempotency-Key": f"mail-{number}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            assert error.code == 503, f"answered {error.code}: only 503 asks to be repeated"
        except OSError:
            pass  # refused, reset, cut off: the key makes repeating safe
        return None


async def test_nothing_is_lost_when_worker_api_and_database_are_killed() -> None:
    with (
        capturing_sink() as (port, folder),
        running("api", "worker", TRANSPORT="smtp", SMTP_URL=f"smtp://127.0.0.1:{port}?tls=none") as gateway,
    ):
        callers = Callers(gateway)
        callers.start()
        for turn, victim in enumerate(("worker", "api", "postgres", "worker", "postgres", "api"), start=1):
            callers.wait_for(turn * MAILS // 8)
            if victim == "postgres":
                assert gateway.postgres.pid is not None
                os.kill(gateway.postgres.pid, signal.SIGKILL)  # its children notice by themselves
                gateway.postgres.ensure_running()
            else:
                gateway.kill(victim)
                gateway.start(victim)
        callers.join()
        db = await Database.connect(gateway.postgres.url)
        try:
            await drained(db)
            doubts = {
                str(row["message_id"]): row["doubts"]
                for row in await db.fetch("SELECT message_id, doubts FROM delivery")
            }
            (books,) = await db.fetch("SELECT * FROM conservation")
        finally:
            await db.close()
        received = receipts(folder)
    lost = set(callers.accepted.values()) - set(received)
    unexplained = {message_id: n for message_id, n in received.items() if n - 1 > doubts[message_id]}
    assert not lost
    assert not unexplained
    assert (books["accepted"], books["delivered"], books["difference"]) == (MAILS, MAILS, 0)


async def drained(db: Database) -> None:
    """Wait until nothing is queued or being sent."""
    deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
    while True:
        (row,) = await db.fetch("SELECT count(*) AS n FROM delivery WHERE state IN ('queued', 'sending')")
        if not row["n"]:
            return
        assert time.monotonic() < deadline, f"{row['n']} deliveries are stuck"
        await asyncio.sleep(0.2)


def receipts(folder: Path) -> collections.Counter[str]:
    """Count how often each message arrived, by its Message-ID."""
    found: collections.Counter[str] = collections.Counter()
    for file in folder.iterdir():
        found.update(match.decode() for match in MESSAGE_ID.findall(file.read_bytes()))
    return found
