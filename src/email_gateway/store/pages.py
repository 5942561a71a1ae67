"""One page of a list that is read from its newest row on."""

from dataclasses import dataclass
from uuid import UUID

from email_gateway.store.database import Record


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `after` an id means older ones, `before` an id newer ones."""

    limit: int = 20
    after: UUID | None = None
    before: UUID | None = None

    def cut(self, rows: list[Record]) -> tuple[list[Record], bool]:
        """Drop the row that only told whether there are more, and put the newest first."""
        kept = rows[: self.limit]
        return (kept[::-1] if self.before is not None else kept), len(rows) > self.limit
