"""The way to Secrets Manager: its name, the connection, how long an answer takes, and what time it is there."""

import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.subject import SLOW_ANSWER
from email_gateway.secrets.threads import call_in_thread

# AWS refuses a request whose time is more than 5 minutes off (IAM user guide, "Elements of an AWS API request signature").
REFUSED_SKEW_SECONDS = 300
WORRYING_SKEW_SECONDS = 30
SEE_CLOCK = "timedatectl timesync-status"


@dataclass(frozen=True, slots=True)
class Reached:
    """What one unsigned question showed; seconds of each step, and the server's time where it told it."""

    resolved: float
    connected: float
    answered: float
    skew_seconds: float | None


async def check_endpoint(url: str, bound: float) -> list[Finding]:
    """Ask the endpoint something harmless; any HTTP answer shows that it is there.

    Each step has half of `bound` seconds, and an answer is slow after a quarter.
    """
    (host, port), see = _parts(url), ask_command(url)
    if getproxies().get(urlsplit(url).scheme) and not proxy_bypass(host):
        return [skipped("endpoint", f"{host} is reached through a proxy: see secrets"), skipped("clock", "as above")]
    try:
        reached = await call_in_thread(lambda: _reach(url, bound / 2))
    except socket.gaierror:
        lost = broken(
            "dns",
            f"the name {host} does not resolve",
            "There is no way to Secrets Manager: the resolver does not know it, or AWS_REGION or AWS_ENDPOINT_URL"
            " has a wrong name.",
            f"getent hosts {host}",
        )
        return [lost, skipped("endpoint", "its name does not resolve"), skipped("clock", "no answer to compare with")]
    except ssl.SSLError as error:
        what = "is not trusted" if isinstance(error, ssl.SSLCertVerificationError) else "failed"
        lost = broken(
            "endpoint",
            f"TLS with {host} {what} ({type(error).__name__})",
            "Something else answers there, or this machine lacks its certificate authority.",
            f"openssl s_client -connect {host}:{port} -servername {host} </dev/null",
        )
        return [ok("dns", host), lost, skipped("clock", "no answer to compare with")]
    except (OSError, http.client.HTTPException) as error:
        lost = broken(
            "endpoint",
            f"{host}:{port} does not answer ({type(error).__name__})",
            "Secrets Manager cannot be reached: a route, a security group, or the VPC endpoint is missing.",
            see,
        )
        return [ok("dns", host), lost, skipped("clock", "no answer to compare with")]
    return [ok("dns", f"{host} in {_ms(reached.resolved)}"), _judge_pace(url, reached, bound), _judge_clock(reached)]


def ask_command(url: str) -> str:
    """Return the command that asks an endpoint anything and says how long it took."""
    return f"curl -sS -o /dev/null -m 5 -w '%{{http_code}} %{{time_total}} s\\n' {url}"


def _parts(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _reach(url: str, seconds: float) -> Reached:
    host, port = _parts(url)
    began = time.monotonic()
    socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    resolved = time.monotonic()
    kind = http.client.HTTPSConnection if urlsplit(url).scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=seconds)
    try:
        connection.connect()
        connected = time.monotonic()
        connection.request("GET", "/", headers={"User-Agent": "email-gateway-doctor"})
        answer = connection.getresponse()
        answered = time.monotonic()
        return Reached(resolved - began, connected - resolved, answered - connected, _skew(answer.getheader("Date")))
    finally:
        connection.close()


def _skew(date: str | None) -> float | None:
    """Return by how many seconds our clock is ahead of theirs, to their whole second."""
    try:
        there = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return (datetime.now(UTC) - there.astimezone(UTC)).total_seconds()


def _judge_pace(url: str, reached: Reached, bound: float) -> Finding:
    total = reached.connected + reached.answered
    seen = f"{_parts(url)[0]}: connected in {_ms(reached.connected)}, answered in {_ms(reached.answered)}"
    if total < bound * SLOW_ANSWER:
        return ok("endpoint", seen)
    return warning(
        "endpoint",
        seen,
        "Secrets Manager is far away or the network is slow: every start waits for it. An interface endpoint in the"
        " VPC shortens the way.",
        ask_command(url),
    )


def _judge_clock(reached: Reached) -> Finding:
    if reached.skew_seconds is None:
        return skipped("clock", "the endpoint told no time")
    off = abs(reached.skew_seconds)
    if off <= WORRYING_SKEW_SECONDS:
        return ok("clock", "agrees with the endpoint's")
    seen = f"{off:.0f} s {'ahead of' if reached.skew_seconds > 0 else 'behind'} the endpoint's"
    if off < REFUSED_SKEW_SECONDS:
        return warning("clock", seen, "At 300 s AWS begins to refuse our signatures: this clock runs free.", SEE_CLOCK)
    means = "AWS refuses signatures that are more than 300 s off: every secret is out of reach. Set the clock."
    return broken("clock", seen, means, SEE_CLOCK)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
