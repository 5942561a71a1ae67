"""What an operator allows a route at most."""

from dataclasses import dataclass

FIRST_DESTINATION_WINDOW = 5  # as Postfix begins (initial_destination_concurrency)


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Bounds of one process on one route, in conversations, of which a destination takes a part once there are others.

    For the whole fleet: `rate` in recipients a second, and `fleet_conversations`, of which each process
    has its part, at least one; None for no limit.
    """

    conversations: int
    per_destination: int
    rate: float | None = None
    fleet_conversations: int | None = None
