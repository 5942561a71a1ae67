"""What an operator does about mail that waits: one sentence for each cause.

The command line, the API, the dashboard and the log say it in these words. Nothing personal stands in them.
"""

from datetime import datetime

from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE, Scope
from email_gateway.mail.reasons import REASONS, advice

EVERY_ROUTE = "*"  # a hold by hand that stands whatever way mail takes

_RETRY = "`email-gateway dlq retry` queues it for another day, `dlq discard` ends it."
_DEAD = {
    "in_doubt": "The server may have taken the mail and its answer was lost: look into the server's log or ask the"
    " recipient. Where it did not arrive, `email-gateway dlq retry` sends it again; else `dlq discard` ends it.",
    "worker_lost": "Workers died while they composed it: look at the worker's log and its memory. " + _RETRY,
    "expired": "Its time ran out before a server took it: `email-gateway trace` shows what stood in its way. " + _RETRY,
    "tampered": "The stored mail does not open: it was changed, or sealed under another key. Compare it with a backup"
    " before you retry it.",
    "content_missing": "The stored mail is gone: restore it from a backup, or discard it.",
    "malformed": "The stored mail cannot be read by this release: run the release that stored it, or discard it.",
    "attachment_missing": "An attachment is gone: restore it from a backup, or discard the mail.",
}
SUSPECTS = (
    "A worker died while it composed them. They are composed alone from now on, and put aside as dead letters after"
    " three more deaths: look at the worker's log and its memory."
)


def lane_name(route: str, lane: str) -> str:
    """Name what a lane holds as people call it."""
    kind, _, rest = lane.partition(":")
    where = "" if route == EVERY_ROUTE else f" on route {route}"
    match kind:
        case "to":
            return f"mail to {rest}{where}"
        case "from":
            tenant, _, domain = rest.partition("/")
            return f"mail from {domain} of tenant {tenant}{where}"
    return f"route {route}" if where else "all mail"


def lane_options(route: str, lane: str) -> str:
    """Return the options by which the commands of `queue` name a lane."""
    kind, _, rest = lane.partition(":")
    where = "" if route == EVERY_ROUTE else f"--route {route}"
    match kind:
        case "to":
            named = f"--to {rest}"
        case "from":
            tenant, _, domain = rest.partition("/")
            named = f"--from {domain} --tenant {tenant}"
        case _:
            named = "" if where else "--all"
    return f"{named} {where}".strip()


def lane_advice(route: str, lane: str, *, held_by: str | None, reason: str | None) -> str:
    """Say why a lane that is not open waits, and what to do."""
    if held_by == "operator":
        return f"An operator holds it: `email-gateway queue release {lane_options(route, lane)}` lets it go."
    return advice(reason or "refused", lane_scope(lane))


def lane_scope(lane: str) -> Scope:
    """Say whom the reason of a lane speaks of."""
    kind = lane.partition(":")[0]
    return {"to": Scope.DESTINATION, "from": Scope.SENDER}.get(kind, Scope.ROUTE)


def dead_advice(reason: str | None) -> str:
    """Say why a delivery is a dead letter, and what to do."""
    if reason in _DEAD:
        return _DEAD[reason]
    meaning = REASONS[reason].meaning if reason in REASONS else "It was not delivered."
    return f"{meaning} It was tried until its time ran out. {_RETRY}"


def scheduled_advice(scheduled_at: datetime) -> str:
    """Say what a delivery waits for that its caller wants to leave later."""
    return f"Its time, {scheduled_at:%Y-%m-%d %H:%M:%S} UTC: its caller scheduled it, and can move or cancel it."


def queued_advice(lane: str, next_attempt_at: datetime, now: datetime, reason: str | None) -> str:
    """Say what a queued delivery waits for whose lanes are all open."""
    if next_attempt_at > now:
        meaning = f" {REASONS[reason].meaning}" if reason in REASONS else ""
        due = f"{next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"Its next try, at {due}.{meaning} `email-gateway queue flush` tries now."
    if lane == SUSPECT_LANE:
        return "A worker died while it composed it: it is composed alone, in its turn."
    if lane == COMMON_LANE:
        return "Its turn. If that lasts, see that a worker runs."
    return "Its turn in a lane that is open again."
