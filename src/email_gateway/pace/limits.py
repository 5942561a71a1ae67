"""What an operator allows a route at most, and what is known of large providers from the start."""

from dataclasses import dataclass

# No destination may take more than this part of a process's conversations: one that hangs leaves room.
DESTINATION_SHARE = 0.75
FIRST_DESTINATION_WINDOW = 5  # as Postfix begins (initial_destination_concurrency)


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Bounds of one process on one route; `rate` is in recipients a second for the whole fleet, None for no limit.
    """

    connections: int
    rate: float | None = None

    @property
    def per_destination(self) -> int:
        return max(1, int(self.connections * DESTINATION_SHARE))
