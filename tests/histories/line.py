"""The way from a worker to PostgreSQL: whole, away, stalled, or losing an answer; and a worker that is paused."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NoReturn, TypeVar

from email_gateway.errors import DatabaseUnavailable
from email_gateway.store.connecting import COMMAND_TIMEOUT_SECONDS
from email_gateway.store.database import Database, Record
from email_gateway.store.deliveries import SQL
from tests.histories.virtual_time import VirtualTime

Answer = TypeVar("Answer")


class Weather(StrEnum):
    """How the database is for everybody."""

    FAIR = "fair"
    AWAY = "away"
    STALLED = "stalled"  # it takes what is sent, and works on it when it is back


class Postgres:
    """What all lines lead to. One statement at a time, so that a history comes out the same each time."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.weather = Weather.FAIR
        self.loses: str | None = None  # the answer to the next statement of this name
        self.loses_on = False  # and to those after it
        self._turn = asyncio.Lock()
        self._is_back = asyncio.Event()
        self._abandoned: list[Callable[[], Awaitable[object]]] = []

    async def change(self, weather: Weather) -> None:
        """Go away, stall, or come back; what was sent into a stall and given up on is done then."""
        if self.weather is Weather.STALLED and weather is Weather.FAIR:
            for statement in self._abandoned:
                await statement()
        self._abandoned.clear()
        self.weather = weather
        self._is_back.set()
        self._is_back = asyncio.Event()

    async def run(self, sql: str, statement: Callable[[], Awaitable[Answer]]) -> Answer:
        while self.weather is Weather.STALLED:
            await self._stall(statement)
        if self.weather is Weather.AWAY:
            raise DatabaseUnavailable("PostgreSQL is away")
        async with self._turn:
            with self.time.asking_postgres():
                answer = await statement()
        if self.loses is not None and sql == getattr(SQL, self.loses):
            self.loses = self.loses if self.loses_on else None
            raise DatabaseUnavailable("the answer was lost")
        return answer

    async def _stall(self, statement: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                await self._is_back.wait()
        except TimeoutError:
            self._abandoned.append(statement)
            raise DatabaseUnavailable("PostgreSQL does not answer") from None
        except asyncio.CancelledError:
            self._abandoned.append(statement)
            raise


class Line:
    """One worker's database. `on_claimed` is told the tokens that the worker has got."""

    def __init__(self, postgres: Postgres, db: Database, on_claimed: Callable[[list[Record]], None]) -> None:
        self._postgres = postgres
        self._db = db
        self._on_claimed = on_claimed
        self._is_awake = asyncio.Event()
        self._is_awake.set()
        self._is_cut = False

    def pause(self) -> None:
        """Let the worker say nothing more until `wake`: whatever it does, it does not come to writing it."""
        self._is_awake.clear()

    def wake(self) -> None:
        self._is_awake.set()

    def cut(self) -> None:
        """Let the worker reach nothing any more, since it is dying: not even to say goodbye."""
        self._is_cut = True
        self.wake()

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        rows = await self._say(sql, lambda: self._db.fetch(sql, *args))
        if sql == SQL.claim:
            self._on_claimed([row for row in rows if row["message_id"] is not None])
        return rows

    async def fetch_one(self, sql: str, *args: object) -> Record | None:
        return await self._say(sql, lambda: self._db.fetch_one(sql, *args))

    async def execute(self, sql: str, *args: object) -> str:
        return await self._say(sql, lambda: self._db.execute(sql, *args))

    def transaction(self) -> NoReturn:
        """Fail: workers open one only to suppress what bounced, and here the same addresses get mail again."""
        raise DatabaseUnavailable("nothing is suppressed in these histories")

    async def _say(self, sql: str, statement: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._is_awake.wait()
        if self._is_cut:
            raise DatabaseUnavailable("this worker is dead")
        return await self._postgres.run(sql, statement)
