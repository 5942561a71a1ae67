"""Workers, their database and a server, as a history of accidents finds them: real code, real PostgreSQL.

Every worker is `email_gateway.worker.work` itself. Time, the way to the database and the server's answers
are the history's.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid4

import msgspec
from uuid_utils.compat import uuid7

from email_gateway.delivery import Delivery
from email_gateway.mail.content import Address, Content
from email_gateway.pace import Shape
from email_gateway.queue import LEASE
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database, Record
from email_gateway.store.dead_letters import DeliveryId, discard_dead_letter, retry_dead_letter
from email_gateway.store.holds import Target, flush
from email_gateway.store.statistics import list_recounts
from email_gateway.vault.keyring import Keyring
from email_gateway.worker import make_loop, route_limits, work
from tests.histories.journal import Journal, Key
from tests.histories.line import Line, Postgres, Weather
from tests.histories.promises import Mail, Promises
from tests.histories.relay import ANSWERS, CLOSED, OK, TAKEN, Attempt, Relay, Stop, Transport
from tests.histories.virtual_time import VirtualTime
from tests.makers import new_message, new_request
from tests.marks import MARK

if TYPE_CHECKING:
    from email_gateway.foundation import Foundation
    from email_gateway.settings import Settings

SLICE_SECONDS = 2.5  # of time that passes: each lets every loop come round once
MOMENT_SECONDS = 0.125
LONG = timedelta(hours=5)  # longer than any wait between two attempts
MOST_ROUNDS = 60
MOST_WORKERS = 3
LOGINS = 4 * MOST_WORKERS  # so that what a dead worker had sent is not taken for its successor's
ROUTE = "inbox"  # the transport of the settings; the relay stands in its place
CROWD = 1_600  # more than a rescue takes at once, three times over


@dataclass(eq=False)
class Worker:
    """One worker process, on a login of its own."""

    login: str
    line: Line
    time: VirtualTime
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: dict[str, float] = field(default_factory=dict)  # what it was told it holds, and when
    is_paused: bool = False
    woke_at: float = float("-inf")
    task: "asyncio.Task[None] | None" = None

    @property
    def is_alive(self) -> bool:
        return self.task is not None and not self.task.done()

    def was_paused_since(self, moment: float) -> bool:
        return self.is_paused or self.woke_at >= moment


class World:
    """Everything a history acts on. Its verbs are what callers, operators and accidents do."""

    def __init__(
        self,
        time: VirtualTime,
        db: Database,
        logins: dict[str, Database],
        keyring: Keyring,
        settings: "Settings",
    ) -> None:
        self.time = time
        self.workers: list[Worker] = []
        self._db = db
        self._logins = logins
        self._keyring = keyring
        self._settings = settings
        self._journal = Journal(db)
        self._acceptor = Acceptor(db)

    async def begin(self) -> None:
        """Empty everything, and start the first worker."""
        await self._journal.begin()
        self.relay = Relay()
        self.promises = Promises(self.relay)
        self.postgres = Postgres(self.time)
        self._fair_since = self._fit_since = self.time.seconds
        self._tenant_id = await self._add_tenant()
        await self.start()

    async def _add_tenant(self) -> UUID:
        tenant_id = uuid4()
        await self._db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1::uuid, $1::uuid::text)", tenant_id)
        return tenant_id

    async def end(self) -> None:
        """Kill what still runs; the next history begins anew."""
        for worker in list(self.workers):
            await self.kill(worker)
        await self.postgres.change(Weather.FAIR)
        await self.time.until_idle()

    async def close(self) -> None:
        for db in (self._db, *self._logins.values()):
            await db.close()

    # Callers and operators -------------------------------------------------------------------

    async def accept(self, domains: tuple[str, ...], on_doubt: str, lifetime: timedelta | None) -> None:
        """Accept a message; with a `lifetime` it is a code that is of no use later."""
        keys, message_id = await self._keyring.tenant(self._tenant_id), uuid7()
        envelope = tuple(f"{MARK}.{number}@{domain}" for number, domain in enumerate(domains))
        content = Content(
            sender=Address("billing@acme.example"),
            envelope=envelope,
            to=tuple(map(Address, envelope)),
            subject="Your invoice",
            text="It is due on Friday.",
        )
        message = new_message(
            message_id=message_id,
            sealed_content=keys.seal("message.content", message_id, msgspec.msgpack.encode(content)),
            domains=domains,
            on_doubt=on_doubt,
            lifetime=lifetime or timedelta(days=4),
            dead_at_expiry=lifetime is None,
        )
        await self._acceptor.accept(new_request(self._tenant_id, message))
        for number in range(len(domains)):
            self.promises.mails[message_id, number] = Mail((message_id, number), on_doubt)
        await self._settle()

    async def retry(self, number: int) -> None:
        if (key := self._dead_letter(number)) is not None:
            await retry_dead_letter(self._db, DeliveryId(*key), actor="history")
            await self._settle()

    async def discard(self, number: int) -> None:
        if (key := self._dead_letter(number)) is not None:
            await discard_dead_letter(self._db, DeliveryId(*key), actor="history")
            await self._settle()

    def _dead_letter(self, number: int) -> Key | None:
        dead = [mail.key for mail in self.promises.mails.values() if mail.row["state"] == "dead"]
        return dead[number % len(dead)] if dead else None

    # Workers ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start a worker on the login that was free for longest."""
        login = next(login for login in self._logins if login not in [worker.login for worker in self.workers])
        self._logins[login] = self._logins.pop(login)

        def on_claimed(rows: list[Record]) -> None:
            for row in rows:
                token = str(row["claim_token"])
                worker.tokens[token] = self.time.seconds
                self.promises.holders[token] = worker

        line = Line(self.postgres, self._logins[login], on_claimed)
        worker = Worker(login, line, self.time)
        foundation = SimpleNamespace(
            db=line, keyring=self._keyring, settings=self._settings, secrets=SimpleNamespace(can_change=False)
        )
        delivery = Delivery(Transport(self.relay, worker), self._keyring, cast("Database", line))
        given = cast("Foundation", foundation)
        loop = make_loop(given, delivery, route_limits(given.settings, Shape()))
        worker.task = asyncio.create_task(work(given, loop, worker.stopping))
        self.workers.append(worker)
        await self._settle()

    async def kill(self, worker: Worker, server_takes: bool = False) -> None:
        """End a worker at once; what lies at the dot the server has, or has not."""
        for attempt in [attempt for attempt in self.relay.under_way if attempt.worker is worker]:
            if attempt.stop is Stop.DOT and server_takes:
                self.relay.take(attempt.in_transaction)
            if attempt.stop is Stop.COMPOSING:
                self._blame(attempt)
        worker.line.cut()
        assert worker.task is not None
        worker.task.cancel()
        await asyncio.gather(worker.task, return_exceptions=True)
        await self._settle()

    def _blame(self, dying: Attempt) -> None:
        """Count against what was composed alone; where two were, nobody knows."""
        composing = [a for a in self.relay.under_way if a.worker is dying.worker and a.stop is Stop.COMPOSING]
        if composing == [dying]:
            for claim in dying.claims.each:
                self.promises.mails[claim.message_id, claim.recipient].kills += 1

    async def pause(self, worker: Worker) -> None:
        worker.line.pause()
        worker.is_paused = True
        await self._settle()

    async def wake(self, worker: Worker) -> None:
        worker.is_paused, worker.woke_at = False, self.time.seconds
        await self.check()  # until here it looked dead
        worker.line.wake()
        await self._settle()

    async def stop(self, worker: Worker) -> None:
        """As SIGTERM does: it finishes what it can within its grace, and gives back the rest."""
        worker.stopping.set()
        await self._settle()

    async def crash(self, times: int, server_is_slow: bool) -> None:
        """All workers die, their leases run out, another starts and claims: so many times.

        They die while they compose, or, where the server is slow, while they wait for it.
        """
        for _ in range(times):
            for worker in list(self.workers):
                await self.kill(worker)
            await self.pass_time(LEASE.total_seconds() + SLICE_SECONDS)
            await self.start()
            await self.pass_time(LEASE.total_seconds() * 1.25)
            if server_is_slow:
                await self.go_well()

    async def oversleep(self, number: int, steps: int, others: int) -> None:
        """A worker whose attempt has come so far sleeps past its lease; others rescue, and come so far; it wakes."""
        for _ in range(steps):
            await self.go_well()
        if not (waiting := self.relay.waiting()):
            return
        sleeper = waiting[number % len(waiting)].worker
        await self.pause(sleeper)
        if len(self.workers) < MOST_WORKERS:
            await self.start()
        await self.pass_time(LEASE.total_seconds() + 2 * SLICE_SECONDS)
        for _ in range(others):
            await self.go_well()
        await self.wake(sleeper)
        await self.go_well()

    async def suffer_an_outage(self, weather: Weather, steps: int, seconds: float, starts: bool) -> None:
        """The database goes while attempts have come so far; servers answer; it comes back, and a worker may start."""
        for _ in range(steps):
            await self.go_well()
        await self.change_weather(weather)
        await self.go_well()
        await self.go_well()
        await self.pass_time(seconds)
        await self._clear_up()
        if starts and len(self.workers) < MOST_WORKERS:
            await self.start()
        await self.pass_time(SLICE_SECONDS)

    async def hear_nothing(self, times: int) -> None:
        """The server takes what it is sent and never says so; what waits for its next attempt becomes due."""
        for _ in range(times):
            for attempt in self.relay.waiting():
                attempt.go({Stop.DOT: TAKEN, Stop.REPLY: CLOSED}.get(attempt.stop or Stop.DOT, OK))
            await self.let_hours_pass()

    async def lose_a_crowd(self) -> None:
        """A worker that held a great many dies before it has sent any; somebody is there to rescue them."""
        await self._make_fit()
        messages, crowd = [new_message() for _ in range(CROWD)], await self._add_tenant()
        for start in range(0, CROWD, 400):
            await self._acceptor.accept(new_request(crowd, *messages[start : start + 400]))
        await self._db.execute(
            "UPDATE delivery SET state = 'sending', phase = 'claimed', attempts = 1, claim_token = gen_random_uuid(),"
            " claim_expires_at = now() + $2 WHERE tenant_id = $1",
            crowd, LEASE,
        )  # fmt: skip
        for _ in range(12):
            await self._pass_slice(SLICE_SECONDS)
        rows = await self._db.fetch(
            "SELECT count(*) AS n FROM delivery WHERE tenant_id = $1 AND state = 'sending'"
            " AND claim_expires_at < now()", crowd,
        )  # fmt: skip
        self.promises.require("orphans", rows[0]["n"] == 0, f"{rows[0]['n']} of {CROWD} wait for their rescue")
        for table in ("message", "delivery", "event"):
            await self._db.execute(f"DELETE FROM {table} WHERE tenant_id = $1", crowd)

    # The server ------------------------------------------------------------------------------

    async def go_on(self, number: int, answer: int) -> None:
        """Let one attempt that waits go on, with one of the answers that may come there."""
        if waiting := self.relay.waiting():
            attempt = waiting[number % len(waiting)]
            assert attempt.stop is not None
            answers = ANSWERS[attempt.stop]
            attempt.go(answers[answer % len(answers)])
            await self._settle()

    async def go_well(self) -> None:
        """Let every attempt that waits go on as it should."""
        for attempt in self.relay.waiting():
            attempt.go(TAKEN if attempt.stop is Stop.DOT else OK)
        await self._settle()

    # The database and time -------------------------------------------------------------------

    async def change_weather(self, weather: Weather) -> None:
        if weather is Weather.FAIR:
            await self._clear_up()
        else:
            await self.postgres.change(weather)
        await self._settle()

    async def _clear_up(self) -> None:
        await self.postgres.change(Weather.FAIR)
        self._fair_since = self.time.seconds

    def lose_answer(self, statement: str) -> None:
        self.postgres.loses = statement

    async def lose_claims(self, times: int) -> None:
        """No answer to a claim arrives for a while: what was claimed is held by workers that do not know of it."""
        self.postgres.loses, self.postgres.loses_on = "claim", True
        await self.pass_time(times * (LEASE.total_seconds() + 2 * SLICE_SECONDS))
        self.postgres.loses, self.postgres.loses_on = None, False

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody."""
        while seconds > 0:
            await self._pass_slice(min(SLICE_SECONDS, seconds))
            seconds -= SLICE_SECONDS

    async def _pass_slice(self, seconds: float) -> None:
        await self._journal.move_clock(seconds)
        await self.time.advance(seconds)
        is_fit = self.postgres.weather is Weather.FAIR and any(
            worker.is_alive and not worker.is_paused and not worker.stopping.is_set() for worker in self.workers
        )
        if not is_fit:
            self._fit_since = self.time.seconds

    async def let_hours_pass(self) -> None:
        """Let what waits become due: its times move, and no lease."""
        await self._db.execute(
            "UPDATE delivery SET next_attempt_at = next_attempt_at - $1::interval"
            " WHERE state = 'queued' AND next_attempt_at > now()",
            LONG,
        )
        await flush(self._db, Target.choose([ROUTE], everything=True), actor="an operator")
        await self._db.execute("UPDATE pace SET probe_at = now() WHERE probe_at IS NOT NULL")
        await self._settle()

    async def _settle(self) -> None:
        """A moment passes, in which everybody does what it can."""
        await self._pass_slice(MOMENT_SECONDS)
        self.workers = [worker for worker in self.workers if worker.is_alive]

    # What must hold --------------------------------------------------------------------------

    async def check(self) -> None:
        """Every promise that can be asked for now."""
        owners = {worker.login: worker for worker in self.promises.holders.values()}
        owners |= {worker.login: worker for worker in self.workers}
        self.promises.read(await self._journal.read(), owners)
        (books,) = await self._db.fetch("SELECT * FROM conservation WHERE tenant_id = $1", self._tenant_id)
        assert await list_recounts(self._db) == {}
        self.promises.ask(
            {name: count for name, count in books.items() if name != "tenant_id"},
            self.time.seconds,
            weather=self.postgres.weather,
            fair_since=self._fair_since,
            fit_since=self._fit_since,
        )

    async def heal(self) -> None:
        """Mend every fault and let time pass: then everything comes to its end."""
        await self._make_fit()
        for _ in range(MOST_ROUNDS):
            await self._let_all_go_well()
            await self.check()
            if not self.promises.unfinished():
                return
            await self.let_hours_pass()
            await self.pass_time(SLICE_SECONDS * 2)
        left = self.promises.unfinished()
        self.promises.require("stuck", False, f"{len(left)} deliveries come to no end: {left[0].row}")

    async def _make_fit(self) -> None:
        self.postgres.loses = None
        await self.change_weather(Weather.FAIR)
        for worker in self.workers:
            if worker.is_paused:
                await self.wake(worker)
        if all(worker.stopping.is_set() for worker in self.workers):
            if len(self.workers) == MOST_WORKERS:
                await self.kill(self.workers[0])
            await self.start()

    async def _let_all_go_well(self) -> None:
        for _ in range(100):
            if not self.relay.waiting():
                return
            await self.go_well()
        raise AssertionError("attempts that never end")
