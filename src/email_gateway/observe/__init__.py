"""What an operator sees of a running process: logs without values, and metrics."""

from email_gateway.observe.logs import bind, configure_logging, get_logger
from email_gateway.observe.metrics import (
    ACCEPTED,
    DOUBTS_HELD,
    HELD_LANES,
    IN_DOUBT,
    LATE_RESULTS,
    OUTCOMES,
    REGISTRY,
    RESCUED,
    ROOT_ALERT,
    SECRET_AGE,
    SECRET_ALERT,
    SECRET_REFRESHES,
    SUSPECTS_DEAD,
    UNWRITTEN,
    render_metrics,
)

__all__ = [
    "ACCEPTED",
    "DOUBTS_HELD",
    "HELD_LANES",
    "IN_DOUBT",
    "LATE_RESULTS",
    "OUTCOMES",
    "REGISTRY",
    "RESCUED",
    "ROOT_ALERT",
    "SECRET_AGE",
    "SECRET_ALERT",
    "SECRET_REFRESHES",
    "SUSPECTS_DEAD",
    "UNWRITTEN",
    "bind",
    "configure_logging",
    "get_logger",
    "render_metrics",
]
