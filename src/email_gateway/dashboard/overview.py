"""The first page: how many deliveries stand where, that none is missing, and how fast they come."""

from typing import Any

from starlette.responses import Response

from email_gateway.dashboard.chart import draw_hour, draw_strip
from email_gateway.dashboard.rendering import fragment
from email_gateway.dashboard.visits import Visit, guarded
from email_gateway.mail.deliveries import State
from email_gateway.store.waiting import MOST_COUNTED


@guarded
async def show(visit: Visit) -> Response:
    """Show the overview; live.js keeps it fresh."""
    return visit.page("overview.html", **await _figures(visit))


@guarded
async def live(visit: Visit) -> Response:
    """Answer a poll with the overview's figures."""
    return fragment(visit.request, "_overview.html", has_inbox=visit.context.has_inbox, **await _figures(visit))


async def _figures(visit: Visit) -> dict[str, Any]:
    snapshot = await visit.context.figures.read(visit.context.db)
    counts = {state: snapshot.count(state) for state in State}
    return {
        "snapshot": snapshot,
        "most_counted": MOST_COUNTED,
        "counts": counts,
        "chart": draw_hour(snapshot.minutes),
        "strip": draw_strip(counts),
        "api_url": visit.context.api_url,
    }
