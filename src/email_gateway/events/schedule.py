"""When a deferred delivery is tried again."""

import random
from datetime import timedelta

# The first waits are short for greylisting, which lets a second try through after minutes; then
# RFC 5321 section 4.5.4.1: at least 30 minutes, over 4 to 5 days in all (the message's lifetime).
WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
JITTER = 0.2  # so that what failed together is not tried together
# A short life is shared out: waits of one, two, three and four twelfths make five tries within it.
LEAST_PART_OF_LIFE = 12


def delay_after(attempt: int, lifetime: timedelta) -> timedelta:
    """Return the wait after the given attempt, counted from 1, spread by a fifth either way.

    A message that lives for a minute is tried five times within it, one that lives for days as often
    as a server that was down for hours makes sensible.
    """
    usual = WAITS[min(attempt, len(WAITS)) - 1]
    wait = min(usual, lifetime * attempt / LEAST_PART_OF_LIFE)
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
