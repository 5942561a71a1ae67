"""Named SQL: `load("messages").find_message` is the text under `-- name: find_message`."""

from functools import cache
from importlib.resources import files
from types import SimpleNamespace

MARK = "-- name: "


@cache
def load(noun: str) -> SimpleNamespace:
    """Read `sql/<noun>.sql` into one attribute per named query."""
    text = (files("email_gateway.store") / "sql" / f"{noun}.sql").read_text(encoding="utf-8")
    named = {}
    for part in text.split(MARK)[1:]:
        name, _, body = part.partition("\n")
        named[name.strip()] = body.strip()
    return SimpleNamespace(**named)
