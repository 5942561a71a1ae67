"""Numbers that grow when the fleet has something to look at: NOTIFY tells who listens, the row who was away."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("generations")


class Subject(StrEnum):
    """What there is to look at: the secrets in Secrets Manager, or root and data keys in the database."""

    SECRETS = "secrets"
    KEYS = "keys"

    @property
    def channel(self) -> str:
        """Return what a bump is notified on."""
        return f"email_gateway_{self.value}"


@dataclass(frozen=True, slots=True)
class Generation:
    """A number, and how long ago it last grew by the database's clock."""

    value: int
    age: timedelta


async def list_generations(db: Queries) -> dict[str, Generation]:
    """Return every number by its name."""
    return {row["name"]: Generation(row["value"], row["age"]) for row in await db.fetch(SQL.list_generations)}


async def bump_generation(db: Queries, subject: Subject) -> int:
    """Have every process look; returns the number it will have followed then. In a transaction, at its commit."""
    row = await db.fetch_one(SQL.bump_generation, subject)
    assert row is not None  # the migration put the rows there
    value: int = row["value"]
    return value


async def ask_generation(db: Queries, subject: Subject, at_most_every: timedelta) -> int | timedelta:
    """Do the same at an operator's wish, or return how long she has to wait for it."""
    row = await db.fetch_one(SQL.ask_generation, subject, at_most_every)
    if row is not None:
        value: int = row["value"]
        return value
    row = await db.fetch_one(SQL.get_wait, subject, at_most_every)
    assert row is not None  # a wish was granted before
    wait: timedelta = row["wait"]
    return max(wait, timedelta())
