"""What is counted: one list, served to Prometheus and written for CloudWatch (`emf`).

Labels hold names and classes, never values or persons. What each metric means and what to do about it
stands in docs/watching.md.
"""

import math

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
EXPIRED = Counter("email_gateway_expired", "Deliveries whose time ran out while they waited.", registry=REGISTRY)
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
WEBHOOKS = Counter(
    "email_gateway_webhook_attempts",
    "What was sent to callers' endpoints, by what came of it.",
    ["result"],
    registry=REGISTRY,
)
UNWRITTEN = Gauge(
    "email_gateway_unwritten_results", "Results that wait for the database to take them.", registry=REGISTRY
)
HELD_LANES = Gauge(
    "email_gateway_held_lanes", "Routes, destinations and senders that wait, by route.", ["route"], registry=REGISTRY
)
LIMITS_ALONE = Gauge(
    "email_gateway_limits_alone",
    "1 while Redis is configured and does not answer: this process keeps to its share of each limit.",
    registry=REGISTRY,
)
LIMITED = Counter("email_gateway_limited", "Requests refused with 429, by limit.", ["limit"], registry=REGISTRY)
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

SECRET_STALE = Gauge(
    "email_gateway_secret_stale",
    "1 while a value serves that is older than the cache allows.",
    ["name"],
    registry=REGISTRY,
)
SECRETS_LIFETIME = Gauge(
    "email_gateway_secrets_lifetime_seconds",
    "How long a fetched secret counts as fresh; infinite where secrets cannot change.",
    registry=REGISTRY,
)
VERSION_AGE = Gauge(
    "email_gateway_secret_version_age_seconds",
    "Time since the fleet first saw a secret's current version: since its last rotation.",
    ["name"],
    registry=REGISTRY,
)
ROTATION = Gauge(
    "email_gateway_rotation",
    "1 while a secret's rotation is in_progress, has failed, or is overdue.",
    ["name", "state"],
    registry=REGISTRY,
)
ROTATION_STEPS = Counter(
    "email_gateway_rotation_steps",
    "Steps that the rotation function asked of this process: ok or failed.",
    ["step", "result"],
    registry=REGISTRY,
)

ROOT_ALERT = Gauge(
    "email_gateway_root_key_alert",
    "1 while this process lacks the active root key, or could not adopt the one of the secrets.",
    registry=REGISTRY,
)
ROOT_KEYS = Gauge(
    "email_gateway_root_keys", "Root keys that the database knows, by state.", ["state"], registry=REGISTRY
)
ROOT_KEYS_HELD = Gauge("email_gateway_root_keys_held", "Root keys in this process's memory.", registry=REGISTRY)
DATA_KEYS_HELD = Gauge(
    "email_gateway_data_keys_held", "Data keys that this process has met, by purpose.", ["purpose"], registry=REGISTRY
)

PROCESSES = Gauge("email_gateway_processes", "Processes of the fleet that live, by kind.", ["kind"], registry=REGISTRY)
DISAGREEING = Gauge(
    "email_gateway_processes_disagreeing",
    "Live processes that hold another version of a secret, or another root key, than the fleet's current one.",
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "email_gateway_dead_letters", "Deliveries that wait for an operator, counted up to 10,000.", registry=REGISTRY
)
QUEUE_AGE = Gauge(
    "email_gateway_queue_age_seconds",
    "How long the delivery has waited that has been due the longest.",
    registry=REGISTRY,
)
FIGURES_AGE = Gauge(
    "email_gateway_fleet_figures_age_seconds",
    "Time since this process last read the figures of the whole fleet from the database.",
    registry=REGISTRY,
)
FIGURES_AGE.set(math.inf)  # until they are read for the first time


def render_metrics() -> bytes:
    """Return every metric of this process in the Prometheus text format."""
    return generate_latest(REGISTRY)
