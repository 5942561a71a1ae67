"""How a root key comes into force: every data key gets a verified wrap under it first, then it takes over.

Wraps are only added, so whatever fails here leaves everything as readable as it was: the transaction
rolls back, and the root before stays active.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.errors import Conflict, KeyUnavailable, Tampered, WrongRootKey
from email_gateway.observe import get_logger
from email_gateway.store import keys as store
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries
from email_gateway.store.generations import Subject, bump_generation
from email_gateway.vault.data_keys import FieldKey, fingerprint_of, make_material
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.root_source import RootSource, SourcedRoot, Versions
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, open_canary, open_wrap, unwrap, wrap

log = get_logger(__name__)

Progress = Callable[[int], None]  # told how many keys have been done so far

PAGE = 1_000
SCRATCH = "scratch"
ACTOR = "gateway"  # no person: a secret changed, and whoever changed it stands in CloudTrail
# A rotation that was begun and not finished gives way to another after this long.
PENDING_LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What came of a change of roots: the root's name, its state, and how many data keys it opens."""

    root_id: bytes
    state: str
    data_keys: int


def _no_progress(_done: int) -> None:
    pass


async def adopt(db: Database, held: HeldRoots, progress: Progress = _no_progress) -> Adoption:
    """Make the root of the secrets as they are now the active one, in one transaction.

    Every live data key is opened, wrapped under it and read back; keys are made meanwhile but for the
    last moment. Of several processes the first does the work and the others find it done. Raises
    KeyUnavailable when a data key cannot be opened by any root in reach, Tampered when one was
    changed, SecretUnavailable when the secrets cannot be read; nothing has changed then.
    """
    async with db.transaction() as transaction:
        await store.lock_adoption(transaction)
        # Read under the lock: a process whose cache is old must not bring an old root back.
        sourced = await held.source.read_current()
        return await _take_over(transaction, held, sourced, progress)


async def rescue(db: Database, source: RootSource, old: RootKey, progress: Progress = _no_progress) -> Adoption:
    """Adopt the root of the secrets as they are now with the help of an older one, given back from a safe.

    For a database whose active root is out of reach: its secret was deleted, or its versions are
    gone. Raises WrongRootKey, changing nothing, unless `old` is a root that the database knows.
    """
    known = await store.list_roots(db)
    stored = next((one for one in known if one.root_id == old.root_id), None)
    if stored is None:
        names = "; ".join(f"{one.root_id.hex()} {one.state}" for one in known) or "none"
        raise WrongRootKey(
            f"the given key and salt derive root key {old.root_id.hex()}, which this database does not know."
            f" It knows: {names}"
        )
    open_canary(old, stored.canary)
    return await adopt(db, HeldRoots(source, [old]), progress)


async def _take_over(transaction: Queries, held: HeldRoots, sourced: SourcedRoot, progress: Progress) -> Adoption:
    root, known = held.hold(sourced.root), await store.list_roots(transaction)
    stored = next((one for one in known if one.root_id == root.root_id), None)
    if stored is not None and stored.state == "active":
        await _note_versions(transaction, stored, sourced.versions)
        return Adoption(root.root_id, "active", await store.count_live_keys(transaction))
    if not known:
        raise WrongRootKey("crypto_root is empty: nothing can be adopted in a database that was not begun")
    await _write(transaction, root, stored, sourced.versions)
    done = await _wrap_all(transaction, held, root, progress)
    # From here to the commit no key is made: those made since the walk are wrapped now.
    await store.lock_roots(transaction)
    done += await _wrap_all(transaction, held, root, lambda count: progress(done + count), only_unwrapped=True)
    await store.activate_root(transaction, root.root_id)
    await _read_back(transaction, root)
    await bump_generation(transaction, Subject.KEYS)
    await add_audit(transaction, actor=ACTOR, action="root.adopted", subject=root.root_id.hex())
    log.info("root_adopted", root_id=root.root_id.hex(), count=done)
    return Adoption(root.root_id, "active", done)


async def stage(db: Database, held: HeldRoots, key_version_id: str) -> Adoption:
    """Prepare the root of a version of the encryption key that is not current yet: state `pending`.

    Idempotent. Raises Conflict while another rotation, begun within the hour, is pending.
    """
    sourced = await held.source.read_staged(key_version_id)
    async with db.transaction() as transaction:
        await store.lock_adoption(transaction)
        root, known = held.hold(sourced.root), await store.list_roots(transaction)
        stored = next((one for one in known if one.root_id == root.root_id), None)
        if stored is not None and stored.state == "active":
            return Adoption(root.root_id, "active", await store.count_live_keys(transaction))
        if await store.is_another_pending(transaction, root.root_id, PENDING_LASTS):
            raise Conflict("another rotation is pending: finish it, or wait until it is an hour old")
        await _write(transaction, root, stored, sourced.versions)
        done = await _wrap_all(transaction, held, root, _no_progress)
        await store.stage_root(transaction, root.root_id)
        await _read_back(transaction, root)
        await bump_generation(transaction, Subject.KEYS)
    log.info("root_staged", root_id=root.root_id.hex(), count=done)
    return Adoption(root.root_id, "pending", done)


async def verify(db: Database, held: HeldRoots, root_id: bytes, progress: Progress = _no_progress) -> Adoption:
    """Open every live data key under a root, adding the wraps that it lacks, and write down that it was done.

    Raises KeyUnavailable when the root is not in reach, Tampered naming the first key that does not open.
    """
    async with db.transaction() as transaction:
        await store.lock_adoption(transaction)
        stored = next((one for one in await store.list_roots(transaction) if one.root_id == root_id), None)
        if stored is None:
            raise KeyUnavailable(f"the database knows no root key {root_id.hex()}")
        root = await held.obtain(stored)
        open_canary(root, stored.canary)
        _try_out(root)
        done = await _wrap_all(transaction, held, root, progress)
        await store.note_verified(transaction, root_id)
    return Adoption(root_id, stored.state, done)


def _try_out(root: RootKey) -> None:
    """Wrap a scratch key, seal a scratch value under it, and get both back; raises Tampered otherwise."""
    tenant_id = row_id = uuid.uuid4()
    material = make_material()
    name = KeyName(fingerprint_of(material), tenant_id, Purpose.FIELD)
    key = FieldKey(unwrap(root, name, wrap(root, name, material)), tenant_id)
    if key.open(SCRATCH, row_id, key.seal(SCRATCH, row_id, material)) != material:
        raise Tampered(f"root key {root.root_id.hex()} does not give back what it sealed")


async def _write(transaction: Queries, root: RootKey, stored: store.StoredRoot | None, versions: Versions) -> None:
    if stored is None:
        await store.put_root(
            transaction, root.root_id, versions.key_version_id, versions.salt_version_id, make_canary(root)
        )
        return
    try:
        open_canary(root, stored.canary)
    except Tampered as refused:
        raise WrongRootKey(f"the canary of root key {root.root_id.hex()} does not open: {refused}") from None
    await _note_versions(transaction, stored, versions)


async def _note_versions(transaction: Queries, stored: store.StoredRoot, versions: Versions) -> None:
    # A process that was given the same secrets another way, by its environment say, must not wipe
    # out the VersionIds by which this root can be fetched when it is no longer current.
    if versions.can_be_fetched:
        await store.update_root_versions(transaction, stored.root_id, versions.key_version_id, versions.salt_version_id)


async def _wrap_all(
    transaction: Queries, held: HeldRoots, root: RootKey, progress: Progress, *, only_unwrapped: bool = False
) -> int:
    """Walk over the live data keys: open each, and add the wraps under `root` that are missing."""
    after, done = b"", 0
    while True:
        page = await store.page_keys(transaction, root.root_id, held.ids, after, PAGE, only_unwrapped=only_unwrapped)
        if not page:
            return done
        missing = next((each.key for each in page if each.key.blob is None), None)
        if missing is not None:
            await held.obtain_for(transaction, missing.key_id)
            continue  # the same page again, with one root more
        # Off the loop: a thousand keys take some ten milliseconds.
        fresh = await asyncio.to_thread(_wrap_page, held.by_id, root, page)
        if fresh:
            added = await store.add_wraps(transaction, root.root_id, list(fresh), list(fresh.values()))
            await asyncio.to_thread(_open_added, root, {each.key.key_id: each.key for each in page}, added)
        after, done = page[-1].key.key_id, done + len(page)
        progress(done)


def _wrap_page(roots: dict[bytes, RootKey], root: RootKey, page: list[store.PagedKey]) -> dict[bytes, bytes]:
    fresh = {}
    for each in page:
        name = _name_of(each.key)
        material = open_wrap(roots, name, each.key.blob)
        if not each.is_wrapped:
            fresh[name.key_id] = wrap(root, name, material)
    return fresh


def _open_added(root: RootKey, keys: dict[bytes, store.StoredKey], added: list[tuple[bytes, bytes]]) -> None:
    for key_id, blob in added:
        unwrap(root, _name_of(keys[key_id]), blob)


async def _read_back(transaction: Queries, root: RootKey) -> None:
    """Raise unless the root as stored is this one and no live key lacks a wrap under it."""
    (stored,) = (one for one in await store.list_roots(transaction) if one.root_id == root.root_id)
    open_canary(root, stored.canary)
    lacking = await store.page_keys(transaction, root.root_id, [root.root_id], b"", 1, only_unwrapped=True)
    if lacking and stored.state == "active":
        raise KeyUnavailable(f"data key {lacking[0].key.key_id.hex()} has no wrap under {root.root_id.hex()}")


def _name_of(key: store.StoredKey) -> KeyName:
    return KeyName(key.key_id, key.tenant_id, Purpose(key.purpose))
