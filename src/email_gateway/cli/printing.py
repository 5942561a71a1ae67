"""What commands print: tables for people, JSON for machines, both on standard output."""

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

# A file or a pipe has no width, and cut values are useless there.
UNBOUNDED_WIDTH = 400
PAGE_WIDTH = 79
STATE_STYLES = {
    "delivered": "green",
    "kept": "bold red",
    "queued": "cyan",
    "sending": "cyan",
    "deferred": "yellow",
    "bounced": "red",
    "expired": "red",
    "dead": "bold red",
    "healthy": "green",
    "degraded": "yellow",
    "active": "green",
}


def make_console(stream: TextIO | None = None) -> Console:
    """Return a console for standard output, or another stream; values are never read as markup."""
    file = stream or sys.stdout
    return Console(file=file, width=None if file.isatty() else UNBOUNDED_WIDTH, markup=False, highlight=False)


def say(text: str) -> None:
    """Print a line as it stands, however long: nothing in it is wrapped or cut, so that it can be copied."""
    print(text, flush=True)


def print_wrapped(text: str, *, indent: int) -> None:
    """Print a sentence within 80 columns; what an operator wrote, or a server said, must not steer the terminal."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    margin = " " * indent
    say(textwrap.fill(plain, PAGE_WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False))


def print_json(value: object) -> None:
    """Print one line of JSON."""
    say(json.dumps(value, default=_plain, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers stand to the right, words that mean a state have a colour."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", expand=False)
    cells = [[show(value) for value in row] for row in rows]
    for position, name in enumerate(columns):
        is_number = bool(cells) and all(row[position].isdigit() for row in cells)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    make_console().print(table)


def show(value: object) -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case timedelta():
            return show_duration(value)
        case tuple() | list():
            return ", ".join(show(item) for item in value) or "-"
    return str(value)


def show_duration(duration: timedelta) -> str:
    """Return a duration in its two largest units."""
    seconds = duration.total_seconds()
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts: list[str] = []
    rest = int(seconds)
    for name, size in units:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _plain(value: object) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return round(value.total_seconds(), 3)
        case bytes():
            return value.hex()
        case UUID():
            return str(value)
        case set() | frozenset():
            return sorted(map(str, value))
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
