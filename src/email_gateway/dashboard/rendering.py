"""Templates, always escaped, and the few ways a page shows a time or a size."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from email_gateway.mail.deliveries import State

BASE = "/dashboard"
KILO = 1024
SHORT = 8


def show_time(moment: datetime) -> str:
    """Return a moment to the second, in UTC as everything here."""
    return f"{moment:%d %b %Y, %H:%M:%S}"


def show_brief(moment: datetime) -> str:
    """Return a moment as a list shows it; the year stands in its title."""
    return f"{moment:%d %b, %H:%M:%S}"


def show_after(delta: timedelta) -> str:
    """Return how long after the first event another came: +0.034 s, +2 min 5 s, +3 h 2 min."""
    seconds = max(0.0, delta.total_seconds())
    return f"+{seconds:.3f} s" if seconds < 60 else f"+{show_length(delta)}"


def show_length(delta: timedelta) -> str:
    """Return how long something lasts, in its two largest units: 34 s, 2 min 5 s, 3 h 2 min, 90 d 4 h."""
    seconds = max(0, int(delta.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def show_short(name: str) -> str:
    """Return the beginning of a VersionId or a root key's name: enough to tell them apart."""
    return name if len(name) <= SHORT else name[:SHORT]


def show_size(octets: int) -> str:
    """Return a size as people read it."""
    if octets < KILO:
        return f"{octets} B"
    if octets < KILO * KILO:
        return f"{octets / KILO:.1f} KB"
    return f"{octets / KILO / KILO:.1f} MB"


def show_count(count: int) -> str:
    """Return a number with its thousands apart."""
    return f"{count:,}"


def _environment() -> Environment:
    # Every file is escaped, whatever its name; no template marks anything as safe.
    environment = Environment(
        loader=PackageLoader("email_gateway.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        time=show_time,
        brief=show_brief,
        after=show_after,
        length_of=show_length,
        size=show_size,
        count_of=show_count,
        short=show_short,
    )
    environment.globals.update(base=BASE, states=tuple(State))
    return environment


TEMPLATES = _environment()


def render(template: str, **values: Any) -> str:
    """Fill in one template."""
    return TEMPLATES.get_template(template).render(**values)


def page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Answer with a page."""
    return HTMLResponse(render(template, **values), status_code=status)


def fragment(request: Request, template: str, **values: Any) -> Response:
    """Answer a poll with the fresh part of a page, or 304 where it is the same as the one shown."""
    body = render(template, **values)
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    return HTMLResponse(body, headers={"etag": etag})
