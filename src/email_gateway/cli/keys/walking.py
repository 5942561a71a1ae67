"""The progress of a walk over sealed rows: a bar with its rate on a terminal, and what did not open."""

import contextlib
import sys
from collections.abc import Iterator
from uuid import UUID

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from email_gateway.cli.printing import make_console
from email_gateway.rekeying.walking import Report


class WalkBar:
    """Shows walks on standard error, when that is a terminal and the answer is for people."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._values = 0
        self.unreadable: list[UUID] = []

    def begin(self, what: str, rows: int) -> None:
        """Begin another walk, over about so many rows."""
        self.unreadable = []
        self._values = 0
        self._task = self._progress.add_task(what, total=rows, rate="")

    def advance(self, report: Report) -> None:
        """Note a batch."""
        self.unreadable += report.unreadable
        self._values += report.counts.moved
        if self._task is not None:
            task = next(task for task in self._progress.tasks if task.id == self._task)
            rate = f"{self._values / task.elapsed:,.0f} values/s" if task.elapsed else ""
            self._progress.update(self._task, advance=report.rows, rate=rate)


@contextlib.contextmanager
def walk_bar(*, as_json: bool) -> Iterator[WalkBar]:
    """Show walks until the block ends."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    is_shown = not as_json and sys.stderr.isatty()
    with Progress(*columns, console=make_console(sys.stderr), disable=not is_shown) as progress:
        yield WalkBar(progress)
