"""Whether this process lives, whether it can accept mail, and the figures behind both."""

import asyncio
import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from email_gateway import __version__
from email_gateway.api.access import check_admin
from email_gateway.api.calls import Call, Reply
from email_gateway.api.clients import is_local
from email_gateway.api.context import ApiContext
from email_gateway.api.schemas import Checks, Live, Ready
from email_gateway.errors import GatewayError
from email_gateway.observe import render_metrics
from email_gateway.store.dead_letters import count_dead_letters
from email_gateway.store.migrations import require_current

CHECK_TIMEOUT_SECONDS = 3.0

PROMETHEUS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_ENCODE = msgspec.json.Encoder().encode
_LIVE = Reply(200, _ENCODE(Live()))
_STARTED = time.monotonic()


class Health(msgspec.Struct, frozen=True):
    """Readiness with what is behind it, for operators."""

    status: str
    checks: Checks
    release: str
    uptime_seconds: int
    secrets: Annotated[dict[str, Any], Meta(description="Each secret's VersionId, age and last error; no values.")]
    dead_letters: Annotated[int | None, Meta(description="None while the database is away.")]


async def look(context: ApiContext) -> Ready:
    """Ask the database, Redis, the secrets and the transport; only the database stops mail from being accepted."""
    database, redis = await asyncio.gather(_database(context), context.limits.redis_health())
    secrets = "disabled"
    if context.settings.use_secrets_manager:
        secrets = "ok" if context.secrets.health == "ok" else "degraded"
    transport = "inbox" if context.settings.keeps_mail else msgspec.UNSET
    checks = Checks(secrets, database, redis, transport)  # type: ignore[arg-type]
    if database != "ok":
        return Ready("unhealthy", checks)
    is_degraded = secrets == "degraded" or redis == "unavailable" or transport == "inbox"
    return Ready("degraded" if is_degraded else "healthy", checks)


async def get_livez(_context: ApiContext, _call: Call) -> Reply:
    """Say that the process answers."""
    return _LIVE


async def get_readyz(context: ApiContext, _call: Call) -> Reply:
    """Say whether mail can be accepted; 503 when it cannot."""
    ready = await context.readiness.get(lambda: look(context))
    return Reply(503 if ready.status == "unhealthy" else 200, _ENCODE(ready))


async def get_admin_health(context: ApiContext, _call: Call) -> Reply:
    """Return readiness with its reasons, looked up now."""
    ready = await look(context)
    dead: int | None = None
    if ready.checks.database == "ok":
        dead = (await count_dead_letters(context.db)).total
    health = Health(
        status=ready.status,
        checks=ready.checks,
        release=__version__,
        uptime_seconds=int(time.monotonic() - _STARTED),
        secrets=dict(context.secrets.status()),
        dead_letters=dead,
    )
    return Reply(200, _ENCODE(health))


async def get_metrics(context: ApiContext, call: Call) -> Reply:
    """Return this process's metrics to this machine, or to whoever has the admin key."""
    if not is_local(call.scope):
        await check_admin(call, context)
    return Reply(200, render_metrics(), content_type=PROMETHEUS)


async def _database(context: ApiContext) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await require_current(context.db)
    except (GatewayError, TimeoutError):
        return "unavailable"
    return "ok"
