"""Callers at a steady rate, in a process of their own: `python -m bench.rotations.traffic`.

Requests begin when they are due, whatever became of those before (an open loop): a gateway that
stalls shows as latency. Standard input brings a plan as one line of JSON, then commands: `load`,
`stop`, `read`. Each is answered with lines of JSON; `load` with one a second.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop

from bench.rotations.mails import find_fault, mail, person_of
from bench.rotations.wire import Answer, CutOff, Wire, request

KINDS = {"send": 40, "replay": 5, "read": 35, "list": 10, "search": 10}
READERS = 16
REPLAYABLE = 500


@dataclass(frozen=True, slots=True)
class Sent:
    """A mail that was answered 202."""

    number: int
    tenant: int
    email_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the check of its answer: what is wrong with it, or None."""

    kind: str
    data: bytes
    check: Callable[[Answer], str | None]


@dataclass
class Tally:
    """What came of the requests. Moments are of the monotonic clock, which all processes share."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    failed_at: list[tuple[float, str]] = field(default_factory=list)
    cut_off_at: list[float] = field(default_factory=list)


class Traffic:
    """Everything the callers know: whom they may speak for, what they sent, how it went."""

    def __init__(self, port: int, rate: float, tenants: list[tuple[float, str]]) -> None:
        self.wire = Wire(port)
        self.tally = Tally()
        self._rate = rate
        self._tenants = tenants
        self._sent: list[Sent] = []
        self._by_id: dict[str, int] = {}
        self._keyed: deque[tuple[bytes, str]] = deque(maxlen=REPLAYABLE)
        self._random = random.Random(4711)
        self._under_way: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self._stopping = asyncio.Event()

    async def load(self) -> None:
        """Make requests at the rate until `stop`; returns when the last is answered."""
        await self.wire.open()
        self._began = time.monotonic()
        number = 0
        while not self._stopping.is_set():
            due = self._began + number / self._rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._make(self._choose(number), due))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
        await asyncio.gather(*self._under_way)
        self.wire.close()

    def stop(self) -> None:
        self._stopping.set()

    async def read_back(self) -> dict[str, int]:
        """Read every mail that was sent, and count those that do not come back as they were."""
        await self.wire.open()
        left, wrong = deque(self._sent), Counter[str]()

        async def read() -> None:
            while left:
                ask = self._read(left.popleft())
                try:
                    fault = ask.check(await self.wire.exchange(ask.data))
                except (CutOff, TimeoutError) as error:
                    fault = type(error).__name__
                if fault is not None:
                    wrong[fault] += 1

        await asyncio.gather(*(read() for _ in range(READERS)))
        self.wire.close()
        return {"read": len(self._sent), **wrong}

    async def _make(self, ask: Ask, due: float) -> None:
        try:
            answer = await self._repeating(ask)
            fault = ask.check(answer)
        except CutOff:
            fault = "no connection"
        except TimeoutError:
            fault = "timeout"
        except (ValueError, KeyError, TypeError) as error:
            fault = f"not the answer it should be ({type(error).__name__})"
        self.tally.samples.append((due, time.monotonic() - due))
        self.tally.kinds[ask.kind] += 1
        if fault is not None:
            self.tally.failures[f"{ask.kind}: {fault}"] += 1
            self.tally.failed_at.append((due, f"{ask.kind}: {fault}"))

    async def _repeating(self, ask: Ask) -> Answer:
        """Repeat once what was cut off, as clients do; who judges knows when something was killed."""
        try:
            return await self.wire.exchange(ask.data)
        except CutOff:
            self.tally.cut_off_at.append(time.monotonic())
            return await self.wire.exchange(ask.data)

    def _choose(self, number: int) -> Ask:
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "replay" and self._keyed:
            return self._replay(*self._random.choice(self._keyed))
        if kind == "send" or not self._sent:
            return self._send(number)
        sent = self._random.choice(self._sent)
        if kind == "list":
            return self._list(sent.tenant)
        return self._search(sent) if kind == "search" else self._read(sent)

    def _send(self, number: int) -> Ask:
        elapsed = time.monotonic() - self._began
        tenant = number % sum(opens_at <= elapsed for opens_at, _ in self._tenants)
        headers = {"Idempotency_Key": f"key-{number}"} if number % 2 else {}
        data = request("POST", "/v1/emails", self._key(tenant), mail(number), **headers)

        def check(answer: Answer) -> str | None:
            if (fault := _refused(answer, 202)) is not None:
                return fault
            email_id = answer.json()["id"]
            self._sent.append(Sent(number, tenant, email_id))
            self._by_id[email_id] = number
            if headers:
                self._keyed.append((data, email_id))
            return None

        return Ask("send", data, check)

    def _replay(self, data: bytes, email_id: str) -> Ask:
        def check(answer: Answer) -> str | None:
            if (fault := _refused(answer, 202)) is not None:
                return fault
            if not answer.has(b"\r\nidempotency-replayed: true\r\n") or answer.json()["id"] != email_id:
                return "it was no replay"
            return None

        return Ask("replay", data, check)

    def _read(self, sent: Sent) -> Ask:
        def check(answer: Answer) -> str | None:
            return _refused(answer, 200) or find_fault(answer.json(), sent.number)

        return Ask("read", request("GET", f"/v1/emails/{sent.email_id}", self._key(sent.tenant)), check)

    def _list(self, tenant: int) -> Ask:
        def check(answer: Answer) -> str | None:
            return _refused(answer, 200) or self._find_fault_in(answer)

        return Ask("list", request("GET", "/v1/emails?limit=10", self._key(tenant)), check)

    def _search(self, sent: Sent) -> Ask:
        sought = person_of(sent.number)
        body = {"tax_id": sought.canonical, "limit": 100}

        def check(answer: Answer) -> str | None:
            if (fault := _refused(answer, 200) or self._find_fault_in(answer)) is not None:
                return fault
            found = answer.json()
            if any(one["person"]["tax_id"] != sought.masked for one in found["data"]):
                return "a mail about somebody else was found"
            if not found["has_more"] and all(one["id"] != sent.email_id for one in found["data"]):
                return "the mail was not found"
            return None

        return Ask("search", request("POST", "/v1/emails/search", self._key(sent.tenant), body), check)

    def _find_fault_in(self, answer: Answer) -> str | None:
        faults = (find_fault(one, self._by_id.get(one["id"])) for one in answer.json()["data"])
        return next((fault for fault in faults if fault is not None), None)

    def _key(self, tenant: int) -> str:
        return self._tenants[tenant][1]


def _refused(answer: Answer, status: int) -> str | None:
    if answer.status == status:
        return None
    try:
        code = answer.json()["code"]
    except (ValueError, KeyError, TypeError):
        code = "no code"
    return f"{answer.status} {code}"


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)


async def _report(traffic: Traffic) -> None:
    while True:
        await asyncio.sleep(1)
        _say(done=len(traffic.tally.samples), failed=traffic.tally.failures.total())


async def serve() -> None:
    """Read the plan, then do as each line says."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = json.loads(await lines.readline())
    traffic = Traffic(plan["port"], plan["rate"], plan["tenants"])
    loading: asyncio.Task[None] | None = None
    reporting: asyncio.Task[None] | None = None
    _say(ready=True)
    while line := (await lines.readline()).strip():
        if line == b"load":
            loading = asyncio.create_task(traffic.load())
            reporting = asyncio.create_task(_report(traffic))
        elif line == b"stop" and loading and reporting:
            traffic.stop()
            await loading
            reporting.cancel()
            tally = traffic.tally
            _say(
                samples=tally.samples,
                kinds=tally.kinds,
                failures=tally.failures,
                failed_at=tally.failed_at,
                cut_off_at=tally.cut_off_at,
            )
        elif line == b"read":
            _say(back=await traffic.read_back())


if __name__ == "__main__":
    uvloop.run(serve())
