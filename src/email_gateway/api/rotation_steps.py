"""How the steps of the rotation function go, as this process was asked for them."""

import contextlib
from collections.abc import Iterator

from email_gateway.errors import GatewayError
from email_gateway.observe import ROTATION_STEPS

STEPS = ("stage", "verify", "complete")

for step in STEPS:
    for result in ("ok", "failed"):
        # From zero on: a counter that begins at one shows Prometheus no increase.
        ROTATION_STEPS.labels(step=step, result=result)


@contextlib.contextmanager
def counting(step: str) -> Iterator[None]:
    """Count a step as `ok`, or as `failed` when it raises."""
    try:
        yield
    except GatewayError:
        ROTATION_STEPS.labels(step=step, result="failed").inc()
        raise
    ROTATION_STEPS.labels(step=step, result="ok").inc()
