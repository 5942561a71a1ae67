"""What PostgreSQL itself says of a history: every change of a delivery and every event, in order, and by whom.

Triggers write it, so that it depends on no code that is under test. The database's clock stands still
but for `move_clock`.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from email_gateway.store import deliveries
from email_gateway.store.database import Database

# Of a message, and the recipient's place in its envelope.
Key: TypeAlias = tuple[UUID, int]

# Before the migrations: `now()` of every default and statement is then ours.
CLOCK = """
    CREATE UNLOGGED TABLE clock (at timestamptz NOT NULL);
    INSERT INTO clock VALUES ('2030-01-01 00:00:00+00');
    CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM public.clock';
"""
# After them. What is written often is not flushed to disk: no history crashes the server itself.
JOURNAL = """
    CREATE UNLOGGED TABLE journal (
        seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        who   name NOT NULL DEFAULT session_user,
        query text NOT NULL DEFAULT current_query(),
        old   jsonb,
        new   jsonb NOT NULL
    );
    CREATE FUNCTION journalise() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_TABLE_NAME = 'event' THEN
            INSERT INTO journal (new) VALUES (to_jsonb(NEW) - 'sealed_reply');
        ELSE
            INSERT INTO journal (old, new) VALUES (to_jsonb(OLD), to_jsonb(NEW));
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER journalise AFTER UPDATE ON delivery FOR EACH ROW
        WHEN ((OLD.state, OLD.phase, OLD.claim_token, OLD.doubts, OLD.next_attempt_at)
              IS DISTINCT FROM (NEW.state, NEW.phase, NEW.claim_token, NEW.doubts, NEW.next_attempt_at))
        EXECUTE FUNCTION journalise();
    CREATE TRIGGER journalise AFTER INSERT ON event FOR EACH ROW
        WHEN (NEW.kind NOT IN ('accepted', 'sending')) EXECUTE FUNCTION journalise();
"""
OFTEN_WRITTEN = ("message", "delivery", "event", "pace", "audit", "idempotency", "rescue_watch")
MAILS = "DELETE FROM message; DELETE FROM delivery; DELETE FROM event; DELETE FROM pace; DELETE FROM journal"

NAMES = {text: name for name, text in vars(deliveries.SQL).items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of a delivery (`old` and `new`) or an event (`new` alone)."""

    who: str
    query: str  # its name in the SQL of deliveries, or nothing
    old: dict[str, Any] | None
    new: dict[str, Any]

    @property
    def key(self) -> Key:
        return UUID(self.new["message_id"]), self.new["recipient"]


class Journal:
    """Reads what was written since it was last read, and keeps the database's clock."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._read = 0

    async def begin(self) -> None:
        """Forget every mail of the history before."""
        await self._db.execute(MAILS)

    async def move_clock(self, seconds: float) -> None:
        await self._db.execute("UPDATE clock SET at = at + $1::interval", timedelta(seconds=seconds))

    async def read(self) -> list[Entry]:
        """Return what happened since the last call, in order."""
        rows = await self._db.fetch(
            "SELECT seq, who, query, old, new FROM journal WHERE seq > $1 ORDER BY seq", self._read
        )
        if rows:
            self._read = rows[-1]["seq"]
        return [
            Entry(row["who"], NAMES.get(row["query"], ""), json.loads(row["old"] or "null"), json.loads(row["new"]))
            for row in rows
        ]
