"""When a deferred delivery is tried again."""

import random
from datetime import timedelta

# The first waits are short for greylisting, which lets a second try through after minutes; then
# RFC 5321 section 4.5.4.1: at least 30 minutes, over 4 to 5 days in all (the message's lifetime).
WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
JITTER = 0.2  # so that what failed together is not tried together


def delay_after(attempt: int) -> timedelta:
    """Return the wait after the given attempt, counted from 1, spread by a fifth either way."""
    return WAITS[min(attempt, len(WAITS)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
