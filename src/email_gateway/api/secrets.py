"""The gateway's own secrets under /admin/secrets: what is held and how old, and the wish to read them again."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.rotation_steps import counting
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.fleet import Acknowledgement, acknowledgements, refresh_fleet
from email_gateway.store.audit import add_audit
from email_gateway.store.generations import Subject, bump_generation, list_generations
from email_gateway.store.secret_versions import list_current, stage_version

VersionId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+=.@-]{32,64}$", description="A VersionId of Secrets Manager.")]


class SecretView(msgspec.Struct, frozen=True):
    """One secret as this process holds it; never its value."""

    name: str
    version_id: Annotated[str | None, Meta(description='Its VersionId, "environment", or none where it is not set.')]
    age_seconds: Annotated[float, Meta(description="Since the source last confirmed it.")]
    stale: bool
    next_refresh_seconds: float | None
    last_error: Annotated[str | None, Meta(description="The class of the last failed fetch.")]
    last_error_code: str | None
    last_rotation: Annotated[datetime | None, Meta(description="When the fleet first saw this version as current.")]


class SecretList(msgspec.Struct, frozen=True):
    """Every secret, and every process that was seen lately."""

    data: list[SecretView]
    generation: int
    instances: tuple[Acknowledgement, ...]
    object: str = "list"


class RefreshSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish to read the secrets again everywhere, now."""

    revoke_previous: Annotated[
        bool, Meta(description="End every admin key but the current one at once, on every process, for good.")
    ] = False


class SecretsRefreshed(msgspec.Struct, frozen=True):
    """Which processes have followed, and which not yet."""

    complete: bool
    generation: int
    revoked: list[str]
    instances: tuple[Acknowledgement, ...]


class StageSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version of the admin key that is to become current: it opens /admin/health for one hour."""

    secret: Literal["admin-api-key"]
    version_id: VersionId


class SecretStaged(msgspec.Struct, frozen=True):
    """The version that may be tried now."""

    secret: str
    version_id: str


_REFRESH = BodyDecoder[RefreshSecrets](RefreshSecrets)
_STAGE = BodyDecoder[StageSecret](StageSecret)
_ENCODE = msgspec.json.Encoder().encode


async def list_secrets(context: ApiContext, _call: Call) -> Reply:
    """Return version, age, next refresh, last error and last rotation of each secret."""
    current = await list_current(context.db)
    generation = (await list_generations(context.db))[Subject.SECRETS].value
    views = []
    for name, status in context.secrets.status().items():
        known = current.get(name)
        rotated = known.current_since if known and known.version_id == status["version_id"] else None
        views.append(SecretView(name=name, last_rotation=rotated, **status))
    return Reply(200, _ENCODE(SecretList(views, generation, await acknowledgements(context.db, generation))))


async def refresh_secrets(context: ApiContext, call: Call) -> Reply:
    """Have every process read the secrets again; waits up to five seconds for them."""
    body = await call.read_small_body()
    wanted = RefreshSecrets()
    if body:
        check_json(call.headers, body)
        wanted = _REFRESH.decode(body)
    done = await refresh_fleet(context.fleet, actor=call.actor, revoke_previous=wanted.revoke_previous)
    answer = SecretsRefreshed(done.complete, done.generation, list(done.revoked), done.instances)
    return Reply(200, _ENCODE(answer))


async def stage_secret(context: ApiContext, call: Call) -> Reply:
    """Let a pending version of the admin key be tried at /admin/health."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _STAGE.decode(body)
    if not context.settings.use_secrets_manager:
        raise InvalidRequest("the secret is not valid", (Fault("/secret", "Secrets Manager is off: nothing rotates"),))
    with counting("stage"):
        # Fetched before it is accepted anywhere: one that cannot be read, or is no admin key, is refused here.
        await context.fleet.secrets.fetch_version(wanted.secret, wanted.version_id)
        async with context.db.transaction() as transaction:
            await stage_version(transaction, wanted.secret, wanted.version_id)
            await bump_generation(transaction, Subject.SECRETS)
            await add_audit(transaction, actor=call.actor, action="admin_key.staged", subject=wanted.version_id)
        await context.fleet.look()
    return Reply(200, _ENCODE(SecretStaged(wanted.secret, wanted.version_id)))
