"""What is counted, in the format of Prometheus. Labels hold names and classes, never values or persons."""

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)

REGISTRY = CollectorRegistry()
for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    REGISTRY.register(collector)

ACCEPTED = Counter("email_gateway_accepted", "Messages stored durably and answered with 2xx.", registry=REGISTRY)
OUTCOMES = Counter(
    "email_gateway_delivery_outcomes", "What attempts came to, by verdict.", ["verdict"], registry=REGISTRY
)
IN_DOUBT = Counter(
    "email_gateway_in_doubt", "Attempts that ended after the final dot and before its reply.", registry=REGISTRY
)
RESCUED = Counter(
    "email_gateway_rescued", "Deliveries taken back from a worker whose claim ran out.", registry=REGISTRY
)
DOUBTS_HELD = Counter(
    "email_gateway_doubts_held",
    "Deliveries in doubt that wait for an operator instead of going again.",
    registry=REGISTRY,
)
SUSPECTS_DEAD = Counter(
    "email_gateway_worker_lost",
    "Deliveries put aside because workers died while composing them alone.",
    registry=REGISTRY,
)
LATE_RESULTS = Counter("email_gateway_late_results", "Results that came after their claim was lost.", registry=REGISTRY)
UNWRITTEN = Gauge(
    "email_gateway_unwritten_results", "Results that wait for the database to take them.", registry=REGISTRY
)
HELD_LANES = Gauge(
    "email_gateway_held_lanes", "Routes, destinations and senders that wait, by route.", ["route"], registry=REGISTRY
)
SECRET_REFRESHES = Counter(
    "email_gateway_secret_refresh",
    "Fetches of a secret: ok, absent (optional and not there), or the class of the failure.",
    ["name", "result"],
    registry=REGISTRY,
)
SECRET_AGE = Gauge(
    "email_gateway_secrets_age_seconds", "Time since the source last confirmed a secret.", ["name"], registry=REGISTRY
)
SECRET_ALERT = Gauge(
    "email_gateway_secret_alert",
    "1 while a secret is older than the cache allows, or its last fetch was denied, not found or malformed.",
    ["name"],
    registry=REGISTRY,
)

ROOT_ALERT = Gauge(
    "email_gateway_root_key_alert",
    "1 while this process lacks the active root key, or could not adopt the one of the secrets.",
    registry=REGISTRY,
)


def render_metrics() -> bytes:
    """Return every metric of this process in the Prometheus text format."""
    return generate_latest(REGISTRY)
