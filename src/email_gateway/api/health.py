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
from email_gateway.api.queue import LaneView, lane_view
from email_gateway.api.schemas import Checks, Live, Ready
from email_gateway.errors import GatewayError
from email_gateway.observe import render_metrics
from email_gateway.store.disk_space import require_disk_space
from email_gateway.store.holds import list_lanes
from email_gateway.store.migrations import require_current
from email_gateway.store.pace import Temper
from email_gateway.store.waiting import Concern, list_concerns

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
    dead_letters: Annotated[int | None, Meta(description="Up to 10,000 are counted; None while the database is away.")]
    lanes: Annotated[list[LaneView], Meta(description="Routes, destinations and senders that are held or slowed.")]
    waits_for_you: Annotated[list[Concern], Meta(description="What waits for a person, and what to do about each.")]


async def look(context: ApiContext) -> Ready:
    """Try the database, ask Redis, the secrets and the transport; only the database stops mail from being accepted."""
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
    lanes: list[Temper] = []
    concerns: list[Concern] = []
    if ready.checks.database == "ok":
        lanes = await list_lanes(context.db)
        concerns = await list_concerns(context.db, lanes)
        dead = sum(one.count or 0 for one in concerns if one.kind == "dead")
    health = Health(
        status=ready.status,
        checks=ready.checks,
        release=__version__,
        uptime_seconds=int(time.monotonic() - _STARTED),
        secrets=dict(context.secrets.status()),
        dead_letters=dead,
        lanes=[lane_view(lane) for lane in lanes],
        waits_for_you=concerns,
    )
    return Reply(200, _ENCODE(health))


async def get_metrics(context: ApiContext, call: Call) -> Reply:
    """Return this process's metrics to this machine, or to whoever has the admin key."""
    if not is_local(call.scope):
        await check_admin(call, context)
    return Reply(200, render_metrics(), content_type=PROMETHEUS)


async def _database(context: ApiContext) -> str:
    """Prove that mail can be stored: a commit, and room for what comes next. A connection alone proves neither."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await require_current(context.db)
            await context.fleet.say()
            await require_disk_space(context.db)
    except (GatewayError, TimeoutError):
        return "unavailable"
    return "ok"
