"""What an operator allows a route at most."""

from dataclasses import dataclass

FIRST_DESTINATION_WINDOW = 5  # as Postfix begins (initial_destination_concurrency)


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Bounds of one process on one route, in conversations, of which a destination takes a part once there are others.

    `rate` is in recipients a second for the whole fleet, None for no limit.
    """

    conversations: int
    per_destination: int
    rate: float | None = None
