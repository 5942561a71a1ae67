"""Root keys under /admin/keys: how they stand, and the steps by which the rotation function brings a new one in."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.rotation_steps import counting
from email_gateway.api.secrets import VersionId
from email_gateway.errors import Fault, InvalidRequest
from email_gateway.store.audit import add_audit
from email_gateway.store.generations import Subject, bump_generation
from email_gateway.store.keys import StoredRoot, count_live_keys, list_roots
from email_gateway.vault.adoption import Adoption, stage, verify
from email_gateway.vault.status import read_key_status

ROOT_SECRET = "encryption-key"  # noqa: S105  (its name)
PURPOSES = {1: "field", 2: "index"}


class RootView(msgspec.Struct, frozen=True):
    """A root key: its name, its state, and how many data keys it opens. Never a key."""

    root_id: str
    state: str
    opens: int
    key_version_id: str
    salt_version_id: str
    created_at: datetime
    activated_at: datetime | None
    retiring_at: datetime | None
    retired_at: datetime | None
    verified_at: datetime | None


class KeyCount(msgspec.Struct, frozen=True):
    """How many data keys there are of one purpose and state."""

    purpose: str
    state: str
    count: int


class HolderView(msgspec.Struct, frozen=True):
    """A process, and the root keys it holds."""

    instance: str
    process: str
    host: str
    pid: int
    roots_held: list[str]
    active_root: str | None
    seen_at: datetime


class KeysView(msgspec.Struct, frozen=True):
    """The vault as it stands."""

    roots: list[RootView]
    data_keys: list[KeyCount]
    live_keys: int
    instances: list[HolderView]


class RotationStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a rotation, about one version of one secret."""

    secret: Literal["encryption-key", "admin-api-key"]
    version_id: VersionId | None = None


class RotationStanding(msgspec.Struct, frozen=True):
    """The root key that the step was about: `pending` until its secret's label moves, then `active`."""

    root_id: Annotated[str, Meta(description="In hexadecimal.")]
    state: str
    data_keys: Annotated[int, Meta(description="How many live data keys it opens.")]


_STEP = BodyDecoder[RotationStep](RotationStep)
_ENCODE = msgspec.json.Encoder().encode


async def get_keys(context: ApiContext, _call: Call) -> Reply:
    """Return root keys, data keys by state, and which process holds what."""
    status = await read_key_status(context.db)
    roots = [
        RootView(
            root_id=one.root.root_id.hex(),
            state=one.root.state,
            opens=one.wraps,
            key_version_id=one.root.key_version_id,
            salt_version_id=one.root.salt_version_id,
            created_at=one.root.created_at,
            activated_at=one.root.activated_at,
            retiring_at=one.root.retiring_at,
            retired_at=one.root.retired_at,
            verified_at=one.root.verified_at,
        )
        for one in status.roots
    ]
    counts = [KeyCount(PURPOSES[purpose], state, count) for (purpose, state), count in sorted(status.keys.items())]
    holders = [
        HolderView(
            str(each.instance),
            each.process,
            each.host,
            each.pid,
            [root.hex() for root in each.standing.roots_held],
            each.standing.active_root.hex() if each.standing.active_root else None,
            each.seen_at,
        )
        for each in status.instances
    ]
    return Reply(200, _ENCODE(KeysView(roots, counts, status.live_keys, holders)))


async def stage_rotation(context: ApiContext, call: Call) -> Reply:
    """Wrap every data key under the root of a version that is not current yet."""
    with counting("stage"):
        step = await _read(call)
        adoption = await stage(context.db, context.keyring.roots, _required(step))
        await _note(context, call, "root.staged", adoption)
    return _reply(adoption)


async def verify_rotation(context: ApiContext, call: Call) -> Reply:
    """Open every data key under a staged root; without a version, say that the gateway can be reached.

    A version that was never staged is staged first: the steps may be called alone.
    """
    with counting("verify"):
        step = await _read(call)
        if step.version_id is None:
            active = next(root for root in await list_roots(context.db) if root.state == "active")
            return _reply(Adoption(active.root_id, active.state, await count_live_keys(context.db)))
        root = await _find(context, step.version_id)
        root_id = root.root_id if root else (await stage(context.db, context.keyring.roots, step.version_id)).root_id
        adoption = await verify(context.db, context.keyring.roots, root_id)
        await _note(context, call, "root.verified", adoption)
    return _reply(adoption)


async def complete_rotation(context: ApiContext, call: Call) -> Reply:
    """Have every process read the secrets now that the label has moved, and adopt what is current."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    step = _STEP.decode(body)
    with counting("complete"):
        async with context.db.transaction() as transaction:
            await bump_generation(transaction, Subject.SECRETS)
            await add_audit(transaction, actor=call.actor, action="rotation.completed", subject=step.secret)
        await context.fleet.look()
    roots = await list_roots(context.db)
    about = await _find(context, step.version_id) if step.secret == ROOT_SECRET and step.version_id else None
    root = about or next(root for root in roots if root.state == "active")
    return _reply(Adoption(root.root_id, root.state, await count_live_keys(context.db)))


async def _read(call: Call) -> RotationStep:
    body = await call.read_small_body()
    check_json(call.headers, body)
    step = _STEP.decode(body)
    if step.secret != ROOT_SECRET:
        raise InvalidRequest("the step is not valid", (Fault("/secret", 'only "encryption-key" makes a root key'),))
    return step


def _required(step: RotationStep) -> str:
    if step.version_id is None:
        missing = Fault("/version_id", "add this field: it is required", is_missing=True)
        raise InvalidRequest("the step is not valid", (missing,))
    return step.version_id


async def _find(context: ApiContext, key_version_id: str) -> StoredRoot | None:
    """Return the root of a version of the key: the one in force, where several salts made several."""
    found = [root for root in await list_roots(context.db) if root.key_version_id == key_version_id]
    in_force = [root for root in found if root.state in ("active", "pending")]
    return next(iter(in_force), None)


async def _note(context: ApiContext, call: Call, action: str, adoption: Adoption) -> None:
    await add_audit(context.db, actor=call.actor, action=action, subject=adoption.root_id.hex())


def _reply(adoption: Adoption) -> Reply:
    return Reply(200, _ENCODE(RotationStanding(adoption.root_id.hex(), adoption.state, adoption.data_keys)))
