"""How fast a route that refused may be used, and when one that is held is tried again. Pure arithmetic.

A refusal says at which rate the server had enough. The pace starts a tenth below it, comes back to
it within a quarter of a minute, lingers there, and then climbs ever faster, as TCP does since RFC 9438
(CUBIC): so a limit that stays is asked for rarely, and one that was lifted is found within minutes.
"""

from datetime import timedelta

BACK_OFF = 0.9  # of the rate that was refused
RECOVERY = timedelta(seconds=15)  # from there back to it
STEEPEST_FALL = 0.5  # of the rate there was: one refusal does not say that a server stands still
LEAST_RATE = 1 / 60
LEAST_PAUSE_SECONDS = 1.0

# A server that does not answer is asked often: a refused connection costs nothing, and mail flows within
# seconds of its return. One that says no to us is asked once a second and then ever less: failed logins
# lock accounts.
LONGEST_WAIT = timedelta(seconds=5)
LONGEST_WAIT_FOR_A_PERSON = timedelta(minutes=5)
LONGEST_WAIT_AFTER_LOGIN = timedelta(minutes=1)
UNANSWERED = frozenset(
    {"connect_failed", "connection_lost", "timeout", "service_closing", "server_unavailable", "too_many_connections"}
)


def allowed_rate(refused_at: float, seconds: float) -> float:
    """Return the rate that is allowed this many seconds after a refusal at `refused_at` a second."""
    progress = seconds / RECOVERY.total_seconds() - 1
    if progress <= 1:
        return refused_at * (1 + (1 - BACK_OFF) * progress**3)
    return refused_at * (2 - BACK_OFF) * 2 ** (3 * min(progress - 1, 10))  # nothing refused it: it was too low


def refused_rate(rate: float | None, accepted: float) -> float:
    """Return the rate that a refusal speaks of, from what was allowed and what was taken in the last second.

    `rate` is None where nothing was refused before: then what the server took is all that is known.
    """
    if rate is None:
        return max(1.0, accepted)
    return max(LEAST_RATE, rate * STEEPEST_FALL, min(rate, accepted))


def pause_after_refusal(refused_at: float) -> float:
    """Return the seconds in which nothing is sent after a refusal: what the server counts in must pass."""
    return max(LEAST_PAUSE_SECONDS, 1 / refused_at)


def probe_wait(reason: str, probes: int) -> timedelta:
    """Return how long to wait before the next probe of a lane, after so many that failed."""
    wait = timedelta(seconds=2 ** min(probes, 10))
    if reason in UNANSWERED:
        return min(wait, LONGEST_WAIT)
    return min(wait, LONGEST_WAIT_AFTER_LOGIN if reason == "auth_failed" else LONGEST_WAIT_FOR_A_PERSON)
