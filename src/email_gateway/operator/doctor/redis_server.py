"""Redis, which the fleet's common limits are counted in."""

from urllib.parse import urlsplit

from email_gateway.limits.probing import probe_redis
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped
from email_gateway.operator.doctor.secret_values import Values
from email_gateway.operator.doctor.subject import Subject

MEANS = {
    "refused": "It wants another user or password than REDIS_URL, or the secret redis-url, has.",
    "silent": "It takes connections and does not answer: it is overloaded, or something else listens there.",
    "unreachable": "It is down, or a firewall is in between. Until it is back each process counts for itself.",
    "no_redis": "Something else listens there.",
}


async def check_redis(subject: Subject, url: str | None, values: Values) -> Finding:
    """Log in and ask for the version."""
    if url is None and not values.is_complete:
        return skipped("redis", "its URL may be in a secret that cannot be read")
    if url is None:
        return ok("redis", "not configured: limits hold for each process by itself")
    parts = urlsplit(url)
    place, found = f"{parts.hostname}:{parts.port or 6379}", await probe_redis(url, subject.bound / 2)
    if found.problem is None:
        return ok("redis", f"Redis {found.version}{', encrypted' if parts.scheme == 'rediss' else ''}")
    tls = " --tls" if parts.scheme == "rediss" else ""
    step = f"redis-cli -h {parts.hostname} -p {parts.port or 6379}{tls} ping"
    return broken("redis", f"{place}: {found.problem.replace('_', ' ')}", MEANS[found.problem], step)
